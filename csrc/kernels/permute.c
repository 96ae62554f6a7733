FGD_PREPARE(permute) { (void)args_; work->n_phases = 1; }
FGD_RUN(permute) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
