FGD_PREPARE(elementwise) { (void)args_; work->n_phases = 1; }
FGD_RUN(elementwise) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
