"""How a student is trained: the min-max step and its supporting modules.

- `adversarial_training.py`: the base class of all methods, with the step;
- `distiller.py`: the base class of methods with a teacher;
- `checked_calls.py`: `fit`, `evaluate` and `perturb`, checked before they run;
- `fit_arguments.py`: the arguments of one call of `fit` or `evaluate`;
- `batch_division.py`: checks that devices can divide the batches;
- `process_share.py`: divides the data among processes;
- `metrics.py`: which metrics each phase measures;
- `state.py`: the state that changes during training, and how it is saved;
- `attack_arguments.py`: checks and defaults of the attack arguments;
- `regularizer.py`: terms that a distiller adds to its loss;
- `weight_perturbation.py`: adversarial weight perturbation (AWP);
- `reference_passes.py`: the student's runs in published code.
"""
