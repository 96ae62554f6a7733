FGD_PREPARE(sgd_step) { (void)args_; work->n_phases = 1; }
FGD_RUN(sgd_step) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
FGD_PREPARE(adam_step) { (void)args_; work->n_phases = 1; }
FGD_RUN(adam_step) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
FGD_PREPARE(grad_norm) { (void)args_; work->n_phases = 1; }
FGD_RUN(grad_norm) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
FGD_PREPARE(scale_all) { (void)args_; work->n_phases = 1; }
FGD_RUN(scale_all) { (void)args_; (void)ptr; (void)phase; (void)begin; (void)end; (void)context; }
