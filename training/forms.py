"""Names of the forms that losses have; `atas_deploy.training.losses` has what they do."""

from typing import Literal, get_args

Form = Literal["infonce", "cosine", "kl"]
Reduction = Literal["row-norm", "mse", "frobenius"]
FORMS: tuple[Form, ...] = get_args(Form)
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
