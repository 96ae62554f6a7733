# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, nonecheck=True, auto_pickle=False
"""The binding: mirrors csrc/fastgd.h, validates what comes from Python, releases the GIL, calls.

It holds the compiled base classes (dtype, Aval, Storage, TensorBase), plans, and the fast path of
a compiled function's call.  There is no mathematics here, and kernels are known only through the
table: their argument structs are packed from the field lists that kernels.def exports.
"""
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import re as _re
import struct as _struct
import threading as _threading

from numpy import ndarray as _ndarray


cdef extern from "plan/pace.h":
    pass

cdef extern from "fastgd.h" nogil:
    ctypedef enum fgd_status:
        FGD_OK, FGD_NOMEM, FGD_VALUE, FGD_INDEX, FGD_NONFINITE, FGD_CANCELLED, FGD_INTERNAL
    const char *fgd_last_error()
    int64_t fgd_dtype_size(int dtype)
    int FGD_N_TIERS, FGD_N_KERNELS, FGD_MAX_DIMS, FGD_MAX_PHASES
    const char *fgd_tier_name(int tier)
    int fgd_tier_built(int tier)
    int fgd_tier_usable(int tier, const char **why)
    fgd_status fgd_select_tier(const char *name)
    int fgd_current_tier()
    const char *fgd_cpu_features()

    ctypedef struct fgd_work:
        int n_phases
        int64_t units[3]
        int64_t shared_bytes, thread_bytes
        double flops, bytes
    ctypedef struct fgd_fault:
        int32_t status, instruction
        int64_t where, value, bound
    ctypedef struct fgd_kernel_info:
        const char *name
        const char *args
        const char *operands
        const char *text
    const fgd_kernel_info *fgd_kernel_describe(int kernel)
    const char *fgd_args_fields(int index, const char **name)
    ctypedef struct fgd_tile_op_info:
        const char *name
        int n_inputs
        int64_t in_dtypes
        const char *text
    int fgd_tile_op_count()
    const fgd_tile_op_info *fgd_tile_op_describe(int opcode)

    void *fgd_alloc(int64_t bytes)
    void fgd_free(void *p)
    void fgd_alloc_fail_at(int64_t n)
    int64_t fgd_alloc_live_bytes()
    int64_t fgd_alloc_peak_bytes(int reset)
    void fgd_alloc_trim()
    void fgd_after_fork_in_child()
    int fgd_has_openmp()
    void fgd_threads_set(int n)
    int fgd_threads_get()

    ctypedef struct fgd_plan:
        pass
    fgd_plan *fgd_plan_new(int n_slots, int n_instructions, int commit_from)
    fgd_status fgd_plan_add(fgd_plan *plan, int kernel, const void *args, int64_t args_bytes,
                            const int32_t *operands, const int64_t *offsets, int n_operands)
    fgd_status fgd_plan_finish(fgd_plan *plan)
    void fgd_plan_free(fgd_plan *plan)
    ctypedef struct fgd_instruction_info:
        int kernel, parallel, barrier_before
        fgd_work work
        double seconds
    fgd_status fgd_plan_inspect(const fgd_plan *plan, int index, fgd_instruction_info *info)
    int64_t fgd_plan_scratch_bytes(const fgd_plan *plan, int n_threads)
    ctypedef struct fgd_run_options:
        int n_threads, profile
        int (*poll)(void *) noexcept nogil
        void *poll_arg
    fgd_status fgd_plan_run(fgd_plan *plan, void **slots, const fgd_run_options *options, fgd_fault *fault)
    ctypedef struct fgd_pace:
        int64_t threads
    int fgd_pace_choose(fgd_pace *pace, int n_threads)
    void fgd_pace_note(fgd_pace *pace, int choice, int64_t nanoseconds)
    void fgd_philox4x32(uint64_t seed, uint64_t offset, uint64_t block, uint32_t *out)

cdef extern from *:
    """
    static _Thread_local int fgd_grad_enabled = 1;
    static _Thread_local int fgd_tracing = 0;
    """
    int fgd_grad_enabled
    int fgd_tracing


# ---- errors --------------------------------------------------------------------------------------

class FastgdError(RuntimeError):
    """Base of every error that fastgd raises; torch users catch RuntimeError."""


class ShapeError(FastgdError, ValueError):
    """A shape or a value is not what the operation expects."""


class DtypeError(FastgdError, TypeError):
    """A dtype or the kind of an argument is not what the operation expects."""


class RangeError(FastgdError, IndexError):
    """An index, label or dim is out of range."""


class NotOffered(FastgdError, NotImplementedError):
    """fastgd does not offer this; the message says what to use instead where there is something."""


class NonFiniteError(FastgdError, FloatingPointError):
    """A finite check found NaN or infinity."""


_RECORDED = ("a tensor that was recorded by fastgd.compile was used outside of the recording; "
             "return it from the compiled function instead")


cdef object _error(fgd_status status, object message=None):
    text = message if message is not None else (<bytes>fgd_last_error()).decode()
    if status == FGD_NOMEM:
        return MemoryError(text)
    if status == FGD_VALUE:
        return ShapeError(text)
    if status == FGD_INDEX:
        return RangeError(text)
    if status == FGD_NONFINITE:
        return NonFiniteError(text)
    return FastgdError(text)


# ---- dtypes --------------------------------------------------------------------------------------

cdef class dtype:
    """An element type.  Compares equal to its name: ``t.dtype == "float32"``."""
    cdef readonly str name
    cdef readonly int code
    cdef readonly int itemsize
    cdef readonly bint is_floating_point
    cdef readonly int rank            # in promotion: bool < integers < floats
    cdef readonly object is_complex

    def __init__(self, *args):
        raise DtypeError("dtype: use the existing ones, such as fastgd.float32")

    def __repr__(self):
        return "fastgd." + self.name

    def __str__(self):
        return "fastgd." + self.name

    def __eq__(self, other):
        if self is other:
            return True
        if isinstance(other, str):
            return self.name == other or "fastgd." + self.name == other
        return NotImplemented

    def __hash__(self):
        return hash(self.name)

    def __reduce__(self):
        return _dtype_from_name, (self.name,)

    def __deepcopy__(self, memo):
        return self


cdef dtype _make_dtype(str name, int code, bint floating, int rank):
    cdef dtype d = dtype.__new__(dtype)
    d.name, d.code, d.itemsize, d.is_floating_point, d.rank = name, code, <int>fgd_dtype_size(code), floating, rank
    d.is_complex = False
    return d

float32 = _make_dtype("float32", 0, True, 6)
float64 = _make_dtype("float64", 1, True, 7)
bfloat16 = _make_dtype("bfloat16", 2, True, 5)
int32 = _make_dtype("int32", 3, False, 2)
int64 = _make_dtype("int64", 4, False, 3)
uint8 = _make_dtype("uint8", 5, False, 1)
bool_ = _make_dtype("bool", 6, False, 0)
dtypes = (float32, float64, bfloat16, int32, int64, uint8, bool_)
cdef dict _dtype_by_name = {d.name: d for d in dtypes}
_dtype_by_name.update({"float": float32, "double": float64, "long": int64, "int": int32})


def _dtype_from_name(str name):
    return _dtype_by_name[name]


def as_dtype(value):
    """The dtype that `value` names: a fastgd dtype, a name, a Python type or a NumPy dtype."""
    if isinstance(value, dtype):
        return value
    if value is float:
        return float32
    if value is int:
        return int64
    if value is bool:
        return bool_
    if isinstance(value, str):
        name = value
    else:
        name = getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)
    name = str(name).removeprefix("fastgd.").removeprefix("torch.")
    found = _dtype_by_name.get(name)
    if found is None:
        raise DtypeError(f"dtype: expected one of {', '.join(d.name for d in dtypes)}, got {value!r}")
    return found


# ---- abstract values -----------------------------------------------------------------------------

cdef class Aval:
    """Shape and dtype of a tensor, interned for the life of the process: equal ones are the same object."""
    cdef readonly dtype dtype
    cdef readonly tuple shape
    cdef readonly int64_t numel
    cdef readonly int64_t nbytes
    cdef readonly int ndim

    def __repr__(self):
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"

    def __reduce__(self):
        return aval, (self.dtype, self.shape)

cdef dict _avals = {}
cdef int64_t MAX_ELEMENTS = (<int64_t>1) << 56


cpdef Aval aval(dtype d, tuple shape):
    """The interned Aval; checks the shape (at most 8 dims, sizes not negative, no overflow)."""
    cdef Aval a = <Aval>_avals.get((d.code, shape))
    cdef object n
    if a is not None:
        return a
    if len(shape) > FGD_MAX_DIMS:
        raise ShapeError(f"shape: expected at most {FGD_MAX_DIMS} dims, got {len(shape)}: {shape}")
    n = 1
    shape = tuple([s.__index__() for s in shape])
    for s in shape:
        if s < 0:
            raise ShapeError(f"shape: expected sizes >= 0, got {shape}")
        n *= s
    if n > MAX_ELEMENTS:
        raise ShapeError(f"shape: {shape} has more elements than can be addressed")
    a = Aval.__new__(Aval)
    a.dtype, a.shape, a.numel, a.nbytes, a.ndim = d, shape, n, n * d.itemsize, len(shape)
    _avals[(d.code, shape)] = a
    return a


# ---- storage -------------------------------------------------------------------------------------

cdef class Storage:
    """A buffer: ours (from the caching allocator) or borrowed from a NumPy array that it keeps alive.

    `version` counts writes; tensors saved for backward remember it."""
    cdef void *ptr
    cdef readonly int64_t nbytes
    cdef public int64_t version
    cdef public int64_t serial        # order of creation; 0: made to outlive any recording
    cdef readonly object owner
    cdef readonly bint readonly
    cdef bint owned
    cdef Py_ssize_t _shape[1]
    cdef Py_ssize_t _strides[1]
    cdef object __weakref__

    def __dealloc__(self):
        if self.owned:
            fgd_free(self.ptr)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.readonly and flags & PyBUF_WRITABLE:
            raise BufferError("the memory that this tensor borrows is read-only")
        self._shape[0] = self.nbytes
        self._strides[0] = 1
        buffer.buf = self.ptr
        buffer.format = NULL                # unsigned bytes
        if flags & PyBUF_FORMAT:
            buffer.format = b"B"
        buffer.internal = NULL
        buffer.itemsize = 1
        buffer.len = self.nbytes
        buffer.ndim = 1
        buffer.obj = self
        buffer.readonly = self.readonly
        buffer.shape = self._shape
        buffer.strides = self._strides
        buffer.suboffsets = NULL

    def __releasebuffer__(self, Py_buffer *buffer):
        pass

    @property
    def address(self):
        return <uint64_t>self.ptr


cdef int64_t _storages = 0


cdef int64_t _next_serial() noexcept:
    global _storages
    _storages += 1
    return _storages


def storage_count():
    """How many storages were made so far: the serial of the newest."""
    return _storages


cdef Storage _new_storage(int64_t nbytes):
    cdef Storage s = Storage.__new__(Storage)
    s.serial = _next_serial()
    s.ptr = fgd_alloc(nbytes)
    if s.ptr == NULL:
        raise MemoryError((<bytes>fgd_last_error()).decode())
    s.owned = True
    s.nbytes = nbytes
    return s


def borrow(array):
    """A Storage over the memory of a C-contiguous array, which it keeps alive."""
    cdef Py_buffer view
    cdef Storage s = Storage.__new__(Storage)
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    s.ptr = view.buf
    s.nbytes = view.len
    s.readonly = view.readonly
    s.owner = array
    s.serial = _next_serial()
    PyBuffer_Release(&view)         # the array itself is kept, and NumPy does not move its memory
    return s


# ---- global state --------------------------------------------------------------------------------

cdef int64_t _mutations = 0
cdef int64_t _grad_epoch = 0
_trace_state = _threading.local()


def note_mutation():
    """Tells compiled functions that something they may have relied on has changed."""
    global _mutations
    _mutations += 1


def mutation_count():
    return _mutations


def is_tracing():
    return fgd_tracing != 0


def current_trace():
    return _trace_state.trace if fgd_tracing else None


def set_trace(trace):
    """Makes `trace` (or None) this thread's recording; returns the previous one."""
    global fgd_tracing
    previous = getattr(_trace_state, "trace", None)
    _trace_state.trace = trace
    fgd_tracing = trace is not None
    return previous


def is_grad_enabled():
    return fgd_grad_enabled != 0


def set_grad_enabled_state(bint enabled):
    global fgd_grad_enabled
    previous = fgd_grad_enabled != 0
    fgd_grad_enabled = enabled
    return previous


# The generator of random numbers: (seed, offset); each random call takes one offset.
cdef uint64_t _rng[2]
_rng[0] = 0
_rng[1] = 0


def rng_state():
    return int(_rng[0]), int(_rng[1])


def set_rng_state(seed, offset):
    _rng[0] = <uint64_t>(seed & 0xFFFFFFFFFFFFFFFF)
    _rng[1] = <uint64_t>(offset & 0xFFFFFFFFFFFFFFFF)


def philox_block(seed, offset, block):
    cdef uint32_t out[4]
    fgd_philox4x32(seed, offset, block, out)
    return out[0], out[1], out[2], out[3]


# ---- tensors -------------------------------------------------------------------------------------

cdef class TensorBase:
    """Storage, shape and dtype, and the tensor's place on the tape or in a recording.

    While a function is recorded, tensors have a `_value` (a value of the program) and no storage."""
    cdef public Storage storage
    cdef public Aval aval
    cdef public bint _requires_grad
    cdef public object _grad
    cdef public object _node          # autodiff.Node that made it; None for a leaf
    cdef public int _node_index
    cdef public object _value
    cdef public object _copy_of       # why a write would be lost: "a slice", ... ; None if it would not
    cdef public object _hooks         # autodiff.Hooks of a leaf, or None
    cdef object __weakref__

    @property
    def shape(self):
        return self.aval.shape

    @property
    def dtype(self):
        return self.aval.dtype

    @property
    def ndim(self):
        return self.aval.ndim

    def numel(self):
        return self.aval.numel

    @property
    def requires_grad(self):
        return self._requires_grad

    @property
    def is_leaf(self):
        return self._node is None

    @property
    def grad(self):
        if fgd_tracing and self._value is None:
            return _trace_state.trace.get_grad(self)
        return self._grad

    @grad.setter
    def grad(self, value):
        global _grad_epoch
        if value is not None:
            if not isinstance(value, TensorBase):
                raise DtypeError(f"grad: expected a Tensor or None, got {type(value).__name__}")
            if (<TensorBase>value).aval is not self.aval:
                raise ShapeError(f"grad: expected {self.aval}, got {(<TensorBase>value).aval}")
        if fgd_tracing and self._value is None:
            _trace_state.trace.set_grad(self, value)
            return
        if value is not None and not fgd_tracing:
            _address(value)             # refuses a tensor of a recording
        if (value is None) != (self._grad is None):
            _grad_epoch += 1
        self._grad = value


cdef _fresh(object cls, Aval a):
    cdef TensorBase t = cls.__new__(cls)
    t.storage = _new_storage(a.nbytes)
    t.aval = a
    return t


def empty_tensor(cls, Aval a):
    """An uninitialised tensor of class `cls`."""
    return _fresh(cls, a)


def wrap_storage(cls, Storage storage, Aval a):
    """A tensor over existing storage (a reshape, a borrowed array)."""
    cdef TensorBase t
    if storage is None:
        raise FastgdError(_RECORDED)
    if storage.nbytes != a.nbytes:
        raise ShapeError(f"storage of {storage.nbytes} bytes cannot hold {a}")
    t = cls.__new__(cls)
    t.storage = storage
    t.aval = a
    return t


def abstract_tensor(cls, Aval a, value):
    """A tensor of a recording: shape only."""
    cdef TensorBase t = cls.__new__(cls)
    t.aval = a
    t._value = value
    return t


_tensor_class = TensorBase


def register_tensor_class(cls):
    """Called once by tensor.py: the class of tensors that are made here."""
    global _tensor_class
    _tensor_class = cls


def persistent_zeros(tuple shape, dtype_like):
    """A tensor of zeros that exists outside of any recording, even when made during one (optimizer state)."""
    cdef TensorBase t = <TensorBase>_fresh(_tensor_class, aval(as_dtype(dtype_like), shape))
    memset(t.storage.ptr, 0, <size_t>t.storage.nbytes)
    t.storage.serial = 0
    return t


def fill_zero(TensorBase t):
    memset(t.storage.ptr, 0, <size_t>t.storage.nbytes)


def copy_bytes(TensorBase t, source):
    """Copies a C-contiguous buffer of the same size into the tensor's storage."""
    cdef Py_buffer view
    PyObject_GetBuffer(source, &view, PyBUF_STRIDES)
    try:
        if view.len != t.storage.nbytes:
            raise ShapeError(f"copy: expected {t.storage.nbytes} bytes, got {view.len}")
        memcpy(t.storage.ptr, view.buf, <size_t>view.len)
    finally:
        PyBuffer_Release(&view)


def item(TensorBase t):
    """The single element as a Python number."""
    cdef int code = t.aval.dtype.code
    cdef void *p = t.storage.ptr
    cdef uint32_t bits
    cdef float f
    if code == 0:
        return (<float *>p)[0]
    if code == 1:
        return (<double *>p)[0]
    if code == 2:
        bits = (<unsigned short *>p)[0] << 16
        memcpy(&f, &bits, 4)
        return f
    if code == 3:
        return (<int32_t *>p)[0]
    if code == 4:
        return (<int64_t *>p)[0]
    if code == 5:
        return (<unsigned char *>p)[0]
    return (<unsigned char *>p)[0] != 0


# ---- the tables ----------------------------------------------------------------------------------

def _read_tables():
    cdef const char *name
    cdef const char *text
    cdef const fgd_kernel_info *info
    cdef int i
    structs = {}
    i = 0
    while True:
        text = fgd_args_fields(i, &name)
        if text == NULL:
            break
        structs[(<bytes>name).decode()] = [
            (kind, field, int(count or 1)) for kind, field, count in
            _re.findall(r"(IA|I|F)\((\w+)(?:,\s*(\d+))?\)", (<bytes>text).decode())]
        i += 1
    rows = {}
    for i in range(FGD_N_KERNELS):
        info = fgd_kernel_describe(i)
        rows[(<bytes>info.name).decode()] = (i, (<bytes>info.args).decode(), (<bytes>info.operands).decode(),
                                             (<bytes>info.text).decode())
    return structs, rows


_arg_structs, _kernel_rows = _read_tables()


def kernels():
    """name -> (number, argument struct, operands, text), as in csrc/kernels.def."""
    return dict(_kernel_rows)


def tile_ops():
    """(name, inputs, dtype mask, text) of each operation of an elementwise program, in opcode order."""
    cdef const fgd_tile_op_info *info
    rows = []
    for i in range(fgd_tile_op_count()):
        info = fgd_tile_op_describe(i)
        rows.append(((<bytes>info.name).decode(), info.n_inputs, info.in_dtypes, (<bytes>info.text).decode()))
    return rows


def pack_args(str kernel, dict fields, tail=()):
    """The bytes of a kernel's argument struct."""
    if kernel not in _kernel_rows:
        raise FastgdError(f"kernel: no row {kernel!r} in kernels.def")
    parts = []
    left = dict(fields)
    for kind, field, count in _arg_structs[_kernel_rows[kernel][1]]:
        if kind == "IA":
            values = [int(v) for v in left.pop(field, ())]
            if len(values) > count:
                raise FastgdError(f"{kernel}: {field} holds at most {count} values, got {len(values)}")
            parts.append(_struct.pack(f"={count}q", *values, *[0] * (count - len(values))))
        elif kind == "I":
            parts.append(_struct.pack("=q", int(left.pop(field, 0))))
        else:
            parts.append(_struct.pack("=d", float(left.pop(field, 0.0))))
    if left:
        raise FastgdError(f"{kernel}: no argument field named {', '.join(left)}")
    parts.append(_struct.pack(f"={1 + len(tail)}q", len(tail), *tail))
    return b"".join(parts)


cdef enum:
    FEW_SLOTS = 128                   # plans with more keep their slot table in allocated memory


cdef void **_slot_table(void **few, int n) except NULL:
    """`few` if n slots fit, else a block that the caller frees with _free_table."""
    cdef void **table = few
    if n > FEW_SLOTS:
        table = <void **>fgd_alloc(8 * <int64_t>n)
        if table == NULL:
            raise _error(FGD_NOMEM)
    return table


cdef void _free_table(void **few, void **table) noexcept:
    if table != few:
        fgd_free(table)


# ---- plans ---------------------------------------------------------------------------------------

cdef class Pace:
    """How a plan chooses between its caller alone (0) and the team (1); here for the tests."""
    cdef fgd_pace pace

    def choose(self, int n_threads):
        return fgd_pace_choose(&self.pace, n_threads)

    def note(self, int choice, int64_t nanoseconds):
        fgd_pace_note(&self.pace, choice, nanoseconds)


cdef int _poll_signals(void *arg) noexcept with gil:
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        (<list>arg).append(error)
        return 1
    return 0


cdef bint _on_main_thread():
    return _threading.get_ident() == _main_ident

_main_ident = _threading.main_thread().ident


cdef class Plan:
    """An instruction list ready to run; see fgd_plan in fastgd.h.  Immutable once finished,
    but for its own measurements of speed.

    `messages` gives, per instruction, how to word a fault: a callable (where, value, bound) -> str or None."""
    cdef fgd_plan *plan
    cdef readonly int n_slots
    cdef readonly int n_instructions
    cdef readonly int commit_from
    cdef bint committed               # the last run went through its commit phase
    cdef public list messages
    cdef bint long_running

    def __init__(self, int n_slots, instructions, int commit_from):
        """instructions: list of (kernel name, packed args, operand slots[, the operands' offsets in bytes])."""
        cdef fgd_status status
        cdef bytes blob
        cdef const char *blob_p
        self.n_slots = n_slots
        self.n_instructions = len(instructions)
        self.commit_from = commit_from
        self.messages = [None] * len(instructions)
        self.plan = fgd_plan_new(n_slots, len(instructions), commit_from)
        if self.plan == NULL:
            raise _error(FGD_NOMEM)
        for name, blob, slots, *rest in instructions:
            packed = _struct.pack(f"={len(slots)}i", *slots) if len(slots) else b"\0\0\0\0"
            moved = bool(rest) and any(rest[0])
            offsets = _struct.pack(f"={len(slots)}q", *rest[0]) if moved else bytes(8)
            blob_p = blob
            status = fgd_plan_add(self.plan, _kernel_rows[name][0], <const void *>blob_p, len(blob),
                                  <const int32_t *><const char *><bytes>packed,
                                  <const int64_t *><const char *><bytes>offsets if moved else NULL, len(slots))
            if status != FGD_OK:
                raise _error(status)
        status = fgd_plan_finish(self.plan)
        if status != FGD_OK:
            raise _error(status)
        cost = 0.0
        for i in range(self.n_instructions):
            work = self.inspect(i)
            cost += work["flops"] / 50e9 + work["bytes"] / 20e9
        self.long_running = cost > 2e-6

    def __dealloc__(self):
        fgd_plan_free(self.plan)

    def inspect(self, int index):
        """What was decided for an instruction, as a dict."""
        cdef fgd_instruction_info info
        status = fgd_plan_inspect(self.plan, index, &info)
        if status != FGD_OK:
            raise _error(status)
        return {"parallel": bool(info.parallel), "barrier_before": bool(info.barrier_before),
                "phases": info.work.n_phases, "units": [info.work.units[p] for p in range(info.work.n_phases)],
                "shared_bytes": info.work.shared_bytes, "thread_bytes": info.work.thread_bytes,
                "flops": info.work.flops, "bytes": info.work.bytes, "seconds": info.seconds}

    def scratch_bytes(self, int n_threads):
        return fgd_plan_scratch_bytes(self.plan, n_threads)

    cdef int execute(self, void **slots, bint profile) except -1:
        """Runs; raises with a message of the instruction that failed."""
        cdef fgd_run_options options
        cdef fgd_fault fault
        cdef fgd_status status
        cdef list caught
        options.n_threads = fgd_threads_get()
        options.profile = profile
        options.poll = NULL
        options.poll_arg = NULL
        self.committed = False
        if not self.long_running:
            status = fgd_plan_run(self.plan, slots, &options, &fault)
        else:
            caught = []
            if _on_main_thread():
                options.poll = _poll_signals
                options.poll_arg = <void *>caught
            with nogil:
                status = fgd_plan_run(self.plan, slots, &options, &fault)
            if caught:
                raise caught[0]
        self.committed = status == FGD_OK or (
            status in (FGD_INDEX, FGD_NONFINITE) and fault.instruction >= self.commit_from)
        if status != FGD_OK:
            self.fail(status, fault.instruction, fault.where, fault.value, fault.bound)
        return 0

    cdef fail(self, fgd_status status, int instruction, int64_t where, int64_t value, int64_t bound):
        if status in (FGD_INDEX, FGD_NONFINITE):
            word = self.messages[instruction] if 0 <= instruction < self.n_instructions else None
            text = word(where, value, bound) if word is not None else None
            if text is None:
                text = f"instruction {instruction}: element {where} is {value}, expected 0 <= value < {bound}"
            raise _error(status, text)
        raise _error(status)

    def run(self, list pointers, bint profile=False):
        """Runs on raw slots: each a TensorBase, a Storage, a writable buffer or None.  For tests and tools."""
        cdef void *few[FEW_SLOTS]
        cdef void **slots
        cdef int i
        if len(pointers) != self.n_slots:
            raise FastgdError(f"plan: expected {self.n_slots} slots, got {len(pointers)}")
        held = [(<TensorBase>p).storage if isinstance(p, TensorBase) else p for p in pointers]
        slots = _slot_table(few, self.n_slots)
        try:
            for i in range(self.n_slots):
                slots[i] = _address(held[i])
            self.execute(slots, profile)
        finally:
            _free_table(few, slots)


cdef void *_address(object o) except? NULL:
    cdef Py_buffer view
    cdef void *p
    if o is None:
        return NULL
    if isinstance(o, TensorBase):
        if (<TensorBase>o).storage is None:
            raise FastgdError(_RECORDED)
        return (<TensorBase>o).storage.ptr
    if isinstance(o, Storage):
        return (<Storage>o).ptr
    PyObject_GetBuffer(o, &view, PyBUF_STRIDES)
    p = view.buf
    PyBuffer_Release(&view)
    return p


def run_kernel(str name, operands, tail=(), **fields):
    """Runs one kernel on buffers, as a plan of one instruction: for tests and benchmarks.

    operands: arrays in the order of kernels.def, None for one that is absent; fields: the scalars
    of the argument struct.  Uses the process's tier and number of threads."""
    cdef Plan plan = prepare_kernel(name, len(operands), tail, **fields)
    plan.run(list(operands))
    return plan.inspect(0)


def prepare_kernel(str name, int n_operands, tail=(), **fields):
    """The Plan of run_kernel, for repeated runs."""
    return Plan(n_operands, [(name, pack_args(name, fields, tail), tuple(range(n_operands)))], 1)


# ---- eager operations ----------------------------------------------------------------------------

cdef class EagerPlan:
    """A plan for one operation on fixed shapes: slots are outputs, inputs, temporaries, constants."""
    cdef readonly Plan plan
    cdef tuple out_avals
    cdef int n_outputs, n_inputs
    cdef int64_t arena_bytes
    cdef list temp_offsets
    cdef list constants
    cdef readonly object program

    def __init__(self, Plan plan, out_avals, int n_inputs, temp_offsets, int64_t arena_bytes, constants, program):
        self.plan = plan
        self.out_avals = tuple(out_avals)
        self.n_outputs = len(self.out_avals)
        self.n_inputs = n_inputs
        self.temp_offsets = list(temp_offsets)
        self.arena_bytes = arena_bytes
        self.constants = list(constants)
        self.program = program

    def run(self, object cls, tuple inputs, tuple out=None):
        """Runs on tensors; outputs are fresh tensors of class `cls`, or those of `out` (written in place)."""
        cdef void *few[FEW_SLOTS]
        cdef void **slots
        cdef int i, n = 0
        cdef char *arena = NULL
        cdef list outputs = []
        cdef list held = []             # another thread may give a tensor other storage meanwhile
        for i in range(self.n_inputs):
            if (<TensorBase>inputs[i]).storage is None:
                raise FastgdError(_RECORDED)
            held.append((<TensorBase>inputs[i]).storage)
        for i in range(self.n_outputs):
            if out is not None and (<TensorBase>out[i]).storage is None:
                raise FastgdError(_RECORDED)
            outputs.append(out[i] if out is not None else _fresh(cls, <Aval>self.out_avals[i]))
            if out is not None:
                _refuse_partial_overlap((<TensorBase>out[i]).storage, held)
            held.append((<TensorBase>outputs[i]).storage)
        slots = _slot_table(few, self.plan.n_slots)
        try:
            for i in range(self.n_outputs):
                slots[n] = (<Storage>held[self.n_inputs + i]).ptr
                n += 1
            for i in range(self.n_inputs):
                slots[n] = (<Storage>held[i]).ptr
                n += 1
            if self.arena_bytes:
                arena = <char *>fgd_alloc(self.arena_bytes)
                if arena == NULL:
                    raise _error(FGD_NOMEM)
                for offset in self.temp_offsets:
                    slots[n] = arena + <int64_t>offset
                    n += 1
            for storage in self.constants:
                slots[n] = (<Storage>storage).ptr
                n += 1
            self.plan.execute(slots, False)
        finally:
            fgd_free(arena)
            _free_table(few, slots)
        if out is not None:
            for i in range(self.n_outputs):
                (<TensorBase>outputs[i]).storage.version += 1
        return outputs[0] if self.n_outputs == 1 else tuple(outputs)


cdef bint _overlap(Storage a, Storage b) noexcept:
    return (<char *>a.ptr < <char *>b.ptr + b.nbytes and <char *>b.ptr < <char *>a.ptr + a.nbytes
            and a.nbytes > 0 and b.nbytes > 0)


cdef int _refuse_partial_overlap(Storage target, list sources) except -1:
    """In place means element by element: memory that is only partly the same has no such meaning."""
    for source in sources:
        if (<Storage>source).ptr != target.ptr and _overlap(<Storage>source, target):
            raise ShapeError("in place: an operand shares part of the memory that is written; .clone() it first")
    return 0


def refuse_shared_memory(list storages, list written):
    """Raises if memory that a plan writes is also bound under another name: the plan could not know it."""
    ordered = sorted(zip(storages, written), key=lambda pair: (<Storage>pair[0]).address)
    for (a, a_written), (b, b_written) in zip(ordered, ordered[1:]):
        if (a_written or b_written) and a is not b and _overlap(<Storage>a, <Storage>b):
            raise FastgdError("compile: two tensors that the function uses share memory and one of them is written; "
                              "use one tensor for one piece of memory")


def scalar_tensor(cls, dtype d, value):
    """A 0-d tensor of a Python number."""
    cdef TensorBase t = <TensorBase>_fresh(cls, aval(d, ()))
    cdef void *p = t.storage.ptr
    if d.code == 0:
        (<float *>p)[0] = <float>float(value)
    elif d.code == 1:
        (<double *>p)[0] = value
    elif d.code == 3:
        (<int32_t *>p)[0] = value
    elif d.code == 4:
        (<int64_t *>p)[0] = value
    elif d.code == 5:
        (<unsigned char *>p)[0] = value
    elif d.code == 6:
        (<unsigned char *>p)[0] = bool(value)
    else:
        raise NotOffered(f"scalar of {d}")
    return t


def take_rng_state(cls, int n):
    """The generator's state as an int64[2] tensor (seed, offset); advances the offset by n."""
    cdef TensorBase t = <TensorBase>_fresh(cls, aval(int64, (2,)))
    (<uint64_t *>t.storage.ptr)[0] = _rng[0]
    (<uint64_t *>t.storage.ptr)[1] = _rng[1]
    _rng[1] += <uint64_t>n
    return t


# ---- NumPy arrays by pointer ---------------------------------------------------------------------

cdef dtype _dtype_of_format(const char *format):
    """The dtype of a buffer's format code in native byte order, or None."""
    if format == NULL or format[0] == 0 or format[1] != 0:
        return None
    if format[0] == b"f":
        return float32
    if format[0] == b"d":
        return float64
    if format[0] == b"l" or format[0] == b"q":
        return int64
    if format[0] == b"i":
        return int32
    if format[0] == b"B":
        return uint8
    if format[0] == b"?":
        return bool_
    return None


cdef bint _c_contiguous(Py_buffer *view):
    cdef Py_ssize_t expected = view.itemsize
    cdef int i
    for i in range(view.ndim - 1, -1, -1):
        if view.shape[i] != 1 and view.strides[i] != expected:
            return False
        expected *= view.shape[i]
    return True


cdef Aval _aval_of_buffer(Py_buffer *view):
    """The Aval of an array that can be bound by pointer as it is, or None."""
    cdef dtype d = _dtype_of_format(view.format)
    cdef int i
    if d is None or not _c_contiguous(view) or view.ndim > FGD_MAX_DIMS:
        return None
    if <uint64_t>view.buf % <uint64_t>(d.itemsize if d.itemsize > 0 else 1):
        return None
    return aval(d, tuple([view.shape[i] for i in range(view.ndim)]))


def buffer_aval(array):
    """The Aval of an array that can be bound by pointer, or None if it must be converted first."""
    cdef Py_buffer view
    try:
        PyObject_GetBuffer(array, &view, PyBUF_FORMAT | PyBUF_STRIDES)
    except (BufferError, ValueError):
        return None
    try:
        return _aval_of_buffer(&view)
    finally:
        PyBuffer_Release(&view)


cdef class Exclusive:
    """One thread at a time.  A thread that already holds it (a signal handler that calls the function which it
    interrupted) gets an error instead of waiting for itself; a forked child renews it."""
    cdef object lock
    cdef str name
    cdef long owner
    cdef object __weakref__

    def __init__(self, name):
        self.name = str(name)
        self.renew()

    def renew(self):
        self.lock = _threading.Lock()
        self.owner = 0

    cdef int acquire(self) except -1:
        cdef long me = PyThread_get_thread_ident()
        if self.owner == me:
            raise FastgdError(f"compile: {self.name} was called again while it was running in the same thread")
        self.lock.acquire()
        self.owner = me
        return 0

    cdef int release(self) except -1:
        self.owner = 0
        self.lock.release()
        return 0

    def __enter__(self):
        self.acquire()

    def __exit__(self, kind, value, trace):
        self.release()


# ---- compiled functions --------------------------------------------------------------------------

cdef enum:
    MAX_ARGS = 256


cdef int _refuse_shared_gradient(Storage gradient, list others) except -1:
    for other in others:
        if gradient.ptr == (<Storage>other).ptr:
            raise FastgdError("compile: two parameters share one .grad tensor; give each a gradient of its own")
    return 0


cdef class Replay:
    """A compiled plan with its bindings; `run` is the steady state of a compiled function's call.

    slots are bound in this order of classes: fixed ones once (persistent storage, constants, host
    scalars, arena), then at each run inputs, gradients that exist on entry, outputs, random state."""
    cdef Plan plan
    cdef void **slots
    cdef readonly list keep           # objects whose memory the fixed slots point into
    cdef list in_slots, in_avals      # tensor arguments: slot, Aval
    cdef list grad_in                 # (slot, parameter, written): .grad on entry
    cdef list outputs                 # (slot, Aval)
    cdef list written                 # Storages whose version a run increments
    cdef char **written_from          # and their memory
    cdef char **written_to
    cdef int n_written
    cdef list grads_out               # (parameter, index into outputs or -1): .grad on exit
    cdef list optimizers              # with _prepare_step() and the count _updates
    cdef int rng_slot, n_random
    cdef public object arena          # Storage shared by the plans of one function
    cdef list arena_slots             # (slot, offset)
    cdef readonly int64_t arena_bytes
    cdef readonly object program
    cdef public tuple output_tree     # structures of the result and of the arguments; None for plain arguments
    cdef public object backward       # of a compiled forward pass: compiler.backward.BackwardPlan, or None
    cdef object __weakref__
    cdef object tensor_class
    # guards
    cdef tuple expected               # per flat argument: an Aval, or the value itself
    cdef list required                # per tensor argument: whether it requires grad
    cdef dict names_in                # the function's globals
    cdef tuple names, cells           # names looked up there, closure cells
    cdef tuple bound                  # what names and cells held
    cdef list grad_pattern            # (parameter, whether .grad was None)
    cdef int64_t mutations, grad_epoch
    cdef bint grad_mode

    def __cinit__(self):
        self.slots = NULL
        self.written_from = NULL
        self.written_to = NULL

    def __init__(self, Plan plan, *, fixed, inputs, grad_in, outputs, written, grads_out, optimizers, rng_slot,
                 n_random, arena_slots, arena_bytes, program, tensor_class):
        self.plan = plan
        self.slots = <void **>fgd_alloc(8 * (plan.n_slots + 1))
        if self.slots == NULL:
            raise _error(FGD_NOMEM)
        memset(self.slots, 0, 8 * (plan.n_slots + 1))
        self.keep = []
        for slot, thing in fixed:
            self.slots[<int>slot] = _address(thing)
            self.keep.append(thing.storage if isinstance(thing, TensorBase) else thing)
        self.in_slots = [slot for slot, _ in inputs]
        self.in_avals = [a for _, a in inputs]
        if len(inputs) > MAX_ARGS:
            raise NotOffered(f"compile: at most {MAX_ARGS} tensor arguments, got {len(inputs)}")
        self.grad_in = list(grad_in)
        self.outputs = list(outputs)
        self.written = list(written)
        self.written_from = <char **>fgd_alloc(8 * <int64_t>len(self.written))
        self.written_to = <char **>fgd_alloc(8 * <int64_t>len(self.written))
        if self.written_from == NULL or self.written_to == NULL:
            raise _error(FGD_NOMEM)
        for storage in self.written:
            self.written_from[self.n_written] = <char *>(<Storage>storage).ptr
            self.written_to[self.n_written] = <char *>(<Storage>storage).ptr + (<Storage>storage).nbytes
            self.n_written += 1
        self.grads_out = list(grads_out)
        self.optimizers = list(optimizers)
        self.rng_slot = rng_slot
        self.n_random = n_random
        self.arena_slots = list(arena_slots)
        self.arena_bytes = arena_bytes
        self.program = program
        self.tensor_class = tensor_class

    def __dealloc__(self):
        fgd_free(self.slots)
        fgd_free(self.written_from)
        fgd_free(self.written_to)

    def guard(self, tuple expected, list required, dict names_in, tuple names, tuple cells, list grad_pattern):
        """Remembers what the plan relies on, as it is now."""
        self.expected = expected
        self.required = required
        self.names_in = names_in
        self.names = names
        self.cells = cells
        self.bound = bindings(names_in, names, cells)
        self.grad_pattern = grad_pattern
        self.grad_mode = fgd_grad_enabled != 0
        self.refresh()

    def refresh(self):
        """The program was recorded again and is the same."""
        self.mutations = _mutations
        self.grad_epoch = _grad_epoch

    @property
    def stale(self):
        """Something process-wide was mutated since the program was last compared."""
        return self.mutations != _mutations

    cpdef bint matches(self, tuple args, list tensors):
        """Whether the plan is for these arguments and this state; appends the tensor arguments to `tensors`."""
        cdef Py_buffer view
        cdef Py_ssize_t i
        cdef object argument, wanted
        cdef Aval found
        if len(args) != len(self.expected) or self.grad_mode != (fgd_grad_enabled != 0):
            return False
        for i in range(len(args)):
            argument = args[i]
            wanted = self.expected[i]
            if isinstance(wanted, Aval):
                if isinstance(argument, TensorBase):
                    if (<TensorBase>argument).aval is not wanted or (<TensorBase>argument).storage is None:
                        return False
                    if (<TensorBase>argument)._requires_grad != <bint>self.required[len(tensors)]:
                        return False
                else:
                    if not isinstance(argument, _ndarray) or self.required[len(tensors)]:
                        return False
                    try:
                        PyObject_GetBuffer(argument, &view, PyBUF_FORMAT | PyBUF_STRIDES)
                    except (TypeError, BufferError, ValueError):
                        return False
                    try:
                        found = _aval_of_buffer(&view)
                    finally:
                        PyBuffer_Release(&view)
                    if found is not wanted:
                        return False
                tensors.append(argument)
            elif not _same(argument, wanted):
                return False
        for i in range(len(self.names)):
            if not _same(self.names_in.get(self.names[i]), self.bound[i]):
                return False
        for i in range(len(self.cells)):
            if not _same(_cell_contents(self.cells[i]), self.bound[len(self.names) + i]):
                return False
        if self.grad_epoch != _grad_epoch:
            for parameter, was_none in self.grad_pattern:
                if ((<TensorBase>parameter)._grad is None) != was_none:
                    return False
            self.grad_epoch = _grad_epoch
        return True

    def bind_arena(self, Storage arena):
        self.arena = arena
        for slot, offset in self.arena_slots:
            self.slots[<int>slot] = <char *>arena.ptr + <int64_t>offset

    @property
    def plan_object(self):
        return self.plan

    cdef int refuse_written(self, void *p, int64_t nbytes) except -1:
        """Raises if an argument lies in memory that the plan writes."""
        cdef int i
        for i in range(self.n_written):
            if <char *>p < self.written_to[i] and self.written_from[i] < <char *>p + nbytes:
                raise FastgdError("compile: an argument shares memory with a tensor that the function writes; "
                                  "pass a copy")
        return 0

    cpdef list run(self, list args, bint profile=False):
        """args: the tensor arguments (TensorBase, or arrays that buffer_aval accepts), already checked."""
        global _grad_epoch
        cdef Py_buffer views[MAX_ARGS]
        cdef int n_views = 0, i
        cdef uint64_t rng[2]
        cdef TensorBase t
        cdef list results = []
        cdef object argument
        cdef object failure = None
        cdef list held = []             # another thread or a signal handler may replace a tensor's storage meanwhile
        cdef list grads_written = []
        cdef Storage s
        cdef bint done = False, reserved = False
        for optimizer in self.optimizers:
            optimizer._prepare_step()
        try:
            for i in range(len(self.in_slots)):
                argument = args[i]
                if isinstance(argument, TensorBase):
                    s = (<TensorBase>argument).storage
                    held.append(s)
                    self.slots[<int>self.in_slots[i]] = s.ptr
                    self.refuse_written(s.ptr, s.nbytes)
                else:
                    PyObject_GetBuffer(argument, &views[n_views], PyBUF_FORMAT | PyBUF_STRIDES)
                    n_views += 1
                    self.slots[<int>self.in_slots[i]] = views[n_views - 1].buf
                    self.refuse_written(views[n_views - 1].buf, views[n_views - 1].len)
            for slot, parameter, grad_written in self.grad_in:
                s = (<TensorBase>(<TensorBase>parameter)._grad).storage
                if grad_written:
                    if s.readonly:
                        raise ShapeError("grad: the gradient borrows read-only memory and cannot be added to; clone it")
                    _refuse_shared_gradient(s, grads_written)
                    grads_written.append(s)
                held.append(s)
                self.slots[<int>slot] = s.ptr
            for slot, a in self.outputs:
                t = <TensorBase>_fresh(self.tensor_class, <Aval>a)
                results.append(t)
                self.slots[<int>slot] = t.storage.ptr
            if self.n_random:
                rng[0] = _rng[0]
                rng[1] = _rng[1]
                _rng[1] += <uint64_t>self.n_random      # reserved: another thread takes the next ones
                reserved = True
                self.slots[self.rng_slot] = rng
            try:
                self.plan.execute(self.slots, profile)
            except FastgdError as error:
                if not self.plan.committed:
                    raise
                failure = error         # found by the commit phase itself: the step was made, as it would be eagerly
            done = True
        finally:
            for i in range(n_views):
                PyBuffer_Release(&views[i])
            if reserved and not done and _rng[1] == rng[1] + <uint64_t>self.n_random:
                _rng[1] = rng[1]
        for storage in self.written:
            (<Storage>storage).version += 1
        for storage in grads_written:
            (<Storage>storage).version += 1
        for parameter, index in self.grads_out:
            if (<TensorBase>parameter)._grad is None and <int>index >= 0:
                _grad_epoch += 1
            elif (<TensorBase>parameter)._grad is not None and <int>index < 0:
                _grad_epoch += 1
            (<TensorBase>parameter)._grad = results[<int>index] if <int>index >= 0 else None
        # No Python code may run between the commit and this count: a pending Ctrl-C would come in between.
        for optimizer in self.optimizers:
            optimizer._updates = optimizer._updates + 1
        if failure is not None:
            raise failure
        return results


cdef class CompiledCall:
    """The call of a compiled function: the steady state is here, everything else in `_ready` of the subclass.

    _last is the plan of the last call; it serves again if nothing was mutated, it is not yet time to record the
    function again (call number _check_at), and its guards hold."""
    cdef public object _function
    cdef public Exclusive _lock
    cdef public Replay _last
    cdef public int64_t _calls, _check_at

    def __call__(self, *args, **kwargs):
        cdef Replay replay
        cdef list tensors = [], results
        if fgd_tracing:                 # inside another compiled function: part of its program
            return self._function(*args, **kwargs)
        self._lock.acquire()
        try:
            replay = self._last
            if (replay is not None and not kwargs and replay.mutations == _mutations and replay.output_tree[1] is None
                    and self._calls + 1 < self._check_at and replay.matches(args, tensors)):
                self._calls += 1
            else:
                replay, tensors = self._ready(args, kwargs)
            results = replay.run(tensors)
        finally:
            self._lock.release()
        if replay.backward is not None:
            replay.backward.attach(tensors, results)
        return unflatten(<tuple>replay.output_tree[0], results)


cdef object unflatten(tuple tree, list results):
    """A result of its recorded structure: see compiler/function.py, _flatten."""
    kind = tree[0]
    if kind == "tensor":
        return results[<Py_ssize_t>tree[1]]
    if kind == "value":
        return tree[1]
    if kind == "dict":
        return {k: unflatten(v, results) for k, v in tree[1:]}
    items = [unflatten(x, results) for x in tree[1:]]
    return items if kind == "list" else tuple(items)


cdef object _EMPTY = object()


cdef object _cell_contents(object cell):
    try:
        return cell.cell_contents
    except ValueError:          # not assigned yet
        return _EMPTY


cdef bint _same(object a, object b):
    """The same object, or equal numbers, strings or tuples of the same type."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (float, complex)):
        return a == b and repr(a) == repr(b)    # 0.0 == -0.0, but products with them differ
    if isinstance(a, (int, str, bytes)):
        return a == b
    if isinstance(a, tuple) and len(a) == len(b):
        for x, y in zip(a, b):
            if not _same(x, y):
                return False
        return True
    return False


def bindings(dict names_in, tuple names, tuple cells):
    """What global names and closure cells hold now."""
    return tuple([names_in.get(n) for n in names] + [_cell_contents(c) for c in cells])


def grad_epoch():
    return _grad_epoch


# ---- memory, threads, tiers ----------------------------------------------------------------------

def alloc_fail_at(int64_t n):
    """Test hook: the n-th allocation from now fails; 0 switches it off."""
    fgd_alloc_fail_at(n)


def alloc_live_bytes():
    return fgd_alloc_live_bytes()


def alloc_peak_bytes(bint reset=False):
    return fgd_alloc_peak_bytes(reset)


def alloc_trim():
    fgd_alloc_trim()


def new_storage(int64_t nbytes):
    return _new_storage(nbytes)


def after_fork_in_child():
    fgd_after_fork_in_child()


def has_openmp():
    return bool(fgd_has_openmp())


def set_num_threads(int n):
    if n < 1:
        raise ShapeError(f"set_num_threads: expected n >= 1, got {n}")
    fgd_threads_set(n)


def get_num_threads():
    return fgd_threads_get()


def select_tier(name):
    encoded = (name or "").encode()
    status = fgd_select_tier(encoded)
    if status != FGD_OK:
        raise _error(status)


def current_tier():
    return (<bytes>fgd_tier_name(fgd_current_tier())).decode()


def tiers():
    """name -> (usable, why) of every tier."""
    cdef const char *why
    found = {}
    for i in range(FGD_N_TIERS):
        usable = fgd_tier_usable(i, &why)
        found[(<bytes>fgd_tier_name(i)).decode()] = (bool(usable), (<bytes>why).decode())
    return found


def cpu_features():
    return (<bytes>fgd_cpu_features()).decode()
