FGD_PREPARE(gemm) { (void)args_; work->n_phases = 1; }
FGD_RUN(gemm) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
