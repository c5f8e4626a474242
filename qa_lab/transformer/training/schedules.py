"""Learning-rate schedules: pure functions from a step to a factor.

A schedule is called with `step`, the updates done so far: 0 at the first update, steps - 1 at the
last. That is what `torch.optim.lr_scheduler.LambdaLR` passes, so a schedule with its arguments
bound is one of its lambdas:

    LambdaLR(optimizer, partial(cosine_with_warmup, steps=1000, warmup=100))

One convention for all of them. A warm-up of w updates gives the factors 1/w, 2/w, ... 1, so that
the first update already moves the weights; Hugging Face gives 0, 1/w, ... (w - 1)/w, and its first
update does nothing. The decay starts on the update after the warm-up, at 1, and would reach its end
on the update after the last: no update is spent on a rate of 0.
"""

import math


def constant_with_warmup(step: int, *, warmup: int = 0) -> float:
    r"""Grow linearly to 1 over the first updates, then stay there.

    $$ factor_s = \min(1, (s + 1) / warmup) $$

    Args:
        step: s, updates done so far.
        warmup: Updates until the full learning rate, itself included. 0: from the start.

    Returns:
        What the learning rate is multiplied by, dimensionless, in (0, 1]; 1 from the update
        s = warmup - 1 on.

    Raises:
        ValueError: `step` or `warmup` is negative.
    """
    if step < 0 or warmup < 0:
        raise ValueError(f"step and warmup count updates, from 0; got {step} and {warmup}.")
    return min(1.0, (step + 1) / max(1, warmup))


def linear_with_warmup(step: int, *, steps: int, warmup: int = 0) -> float:
    r"""Grow linearly to 1, then fall linearly to 0.

    $$ factor_s = \begin{cases} (s + 1) / warmup & s < warmup \\
       (steps - s) / (steps - warmup) & warmup \le s \le steps \end{cases} $$

    Paper: Devlin et al. 2018, arXiv:1810.04805, appendix A.2.
    Departs: the first factor is 1 / warmup, not 0.

    Args:
        step: s, updates done so far.
        steps: Updates of the whole run.
        warmup: Updates of warm-up, out of `steps`. 0: none.

    Returns:
        What the learning rate is multiplied by, dimensionless: in (0, 1] during the run, 0 after.

    Raises:
        ValueError: `step` or `warmup` is negative, or no update is left after the warm-up.
    """
    check_run(step, steps, warmup)
    if step < warmup:
        return constant_with_warmup(step, warmup=warmup)
    return 1 - decay_progress(step, steps, warmup)


def cosine_with_warmup(step: int, *, steps: int, warmup: int = 0, floor: float = 0.0) -> float:
    r"""Grow linearly to 1, then fall along half a cosine.

    $$ factor_s = \begin{cases} (s + 1) / warmup & s < warmup \\
       floor + (1 - floor) \frac{1}{2} (1 + \cos \frac{\pi (s - warmup)}{steps - warmup})
       & warmup \le s \le steps \end{cases} $$

    Paper: Loshchilov and Hutter 2017, arXiv:1608.03983, section 3, eq. 5.
    Departs: one run without restarts, after a warm-up, as GPT-3 was trained (Brown et al. 2020,
        arXiv:2005.14165, appendix B, with floor = 0.1).

    Args:
        step: s, updates done so far.
        steps: Updates of the whole run.
        warmup: Updates of warm-up, out of `steps`. 0: none.
        floor: Factor at the end, dimensionless, in [0, 1].

    Returns:
        What the learning rate is multiplied by, dimensionless: in (0, 1] during the run, `floor`
        after.

    Raises:
        ValueError: `step` or `warmup` is negative, no update is left after the warm-up, or `floor`
            lies outside [0, 1].
    """
    if not 0 <= floor <= 1:
        raise ValueError(f"floor is a factor on the learning rate, in [0, 1]; got {floor}.")
    check_run(step, steps, warmup)
    if step < warmup:
        return constant_with_warmup(step, warmup=warmup)
    half_cosine = (1 + math.cos(math.pi * decay_progress(step, steps, warmup))) / 2
    return floor + (1 - floor) * half_cosine


def noam(step: int, *, d_model: int, warmup: int = 4000) -> float:
    r"""Grow linearly, then fall with the square root of the step: the Transformer's own schedule.

    $$ rate_s = d_{model}^{-0.5} \min((s + 1)^{-0.5}, (s + 1) warmup^{-1.5}) $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 5.3, eq. 3, where step_num = s + 1.

    Args:
        step: s, updates done so far.
        d_model: Width of the model, in features.
        warmup: Updates of warm-up, at least 1.

    Returns:
        The learning rate itself, not a factor: give the optimiser lr = 1. It is positive, and
        highest, (d_model warmup)^-0.5, on the update s = warmup - 1.

    Raises:
        ValueError: `step` is negative, or `d_model` or `warmup` is below 1.
    """
    if step < 0 or d_model < 1 or warmup < 1:
        raise ValueError(
            "noam needs step >= 0, d_model >= 1 and warmup >= 1; "
            f"got {step}, {d_model} and {warmup}."
        )
    return d_model**-0.5 * min((step + 1) ** -0.5, (step + 1) * warmup**-1.5)


def decay_progress(step: int, steps: int, warmup: int) -> float:
    r"""Return the share of the decay that is behind us.

    $$ progress_s = \min(1, (s - warmup) / (steps - warmup)) $$

    Args:
        step: s, updates done so far, at least `warmup`.
        steps: Updates of the whole run.
        warmup: Updates of warm-up.

    Returns:
        Dimensionless, in [0, 1]: 0 on the first update after the warm-up, 1 after the run.

    Raises:
        ValueError: `step` or `warmup` is negative, or no update is left after the warm-up.
    """
    check_run(step, steps, warmup)
    return min(1.0, (step - warmup) / (steps - warmup))


def check_run(step: int, steps: int, warmup: int) -> None:
    """Refuse a run that would never decay; at its first update, not after the warm-up.

    Raises:
        ValueError: `step` or `warmup` is negative, or no update is left after the warm-up.
    """
    if step < 0 or warmup < 0:
        raise ValueError(f"step and warmup count updates, from 0; got {step} and {warmup}.")
    if steps <= warmup:
        raise ValueError(
            f"a warm-up of {warmup} out of {steps} updates leaves none for the decay; "
            "steps must be larger than warmup."
        )
