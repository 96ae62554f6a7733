FGD_PREPARE(cross_entropy_fwd) { (void)args_; work->n_phases = 1; }
FGD_RUN(cross_entropy_fwd) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
FGD_PREPARE(cross_entropy_bwd) { (void)args_; work->n_phases = 1; }
FGD_RUN(cross_entropy_bwd) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
