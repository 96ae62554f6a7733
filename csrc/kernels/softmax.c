FGD_PREPARE(softmax_fwd) { (void)args_; work->n_phases = 1; }
FGD_RUN(softmax_fwd) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
FGD_PREPARE(softmax_bwd) { (void)args_; work->n_phases = 1; }
FGD_RUN(softmax_bwd) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
