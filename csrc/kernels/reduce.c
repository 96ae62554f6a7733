FGD_PREPARE(reduce) { (void)args_; work->n_phases = 1; }
FGD_RUN(reduce) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
FGD_PREPARE(argmax) { (void)args_; work->n_phases = 1; }
FGD_RUN(argmax) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
