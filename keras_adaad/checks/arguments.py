"""Checks of the numbers, names and paths that a function takes."""

import math
import numbers
import os
import pathlib


def check_number(
    name, value, minimum=0.0, maximum=math.inf, open_minimum=False
):
    """Returns `value` as a finite float in `[minimum, maximum]`, or raises."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"Argument `{name}` must be a number. "
            f"Received: {name}={value!r} (of type {type(value).__name__})"
        )
    value = float(value)
    too_low = value <= minimum if open_minimum else value < minimum
    if not math.isfinite(value) or too_low or value > maximum:
        bracket = "(" if open_minimum else "["
        end = ")" if maximum == math.inf else "]"
        raise ValueError(
            f"Argument `{name}` must be a finite number in "
            f"{bracket}{minimum}, {maximum}{end}. Received: {name}={value}"
        )
    return value


def check_integer(name, value, minimum=1):
    """Returns `value` as an int of at least `minimum`, or raises."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"Argument `{name}` must be an integer. "
            f"Received: {name}={value!r} (of type {type(value).__name__})"
        )
    if value < minimum:
        raise ValueError(
            f"Argument `{name}` must be at least {minimum}. "
            f"Received: {name}={value}"
        )
    return int(value)


def check_tuple(name, value):
    """Raises unless the argument is a tuple."""
    if not isinstance(value, tuple):
        raise TypeError(
            f"Argument `{name}` must be a tuple, such as `(value,)`. "
            f"Received: {name}={value!r}"
        )


def check_choice(name, value, choices):
    """Returns `value` if it is one of `choices`, or raises."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise ValueError(
            f"Argument `{name}` must be one of "
            f"{', '.join(repr(choice) for choice in choices)}. "
            f"Received: {name}={value!r}"
        )
    return value


def check_file_path(name, path, example):
    """Returns the path of a file that can be written, or raises."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"Argument `{name}` must be a path, such as {example!r}. "
            f"Received: {name}={path!r}"
        )
    found = pathlib.Path(path)
    if found.is_dir() or not found.absolute().parent.is_dir():
        raise ValueError(
            f"Argument `{name}` must be a file in a folder that exists. "
            f"Received: {name}={str(path)!r}"
        )
    return found


def check_input_range(input_range):
    """Returns `input_range` as a tuple `(low, high)` of floats, or raises."""
    if not isinstance(input_range, (tuple, list)) or len(input_range) != 2:
        raise TypeError(
            "Argument `input_range` must be a pair `(low, high)`, the smallest "
            "and the largest value a pixel can have. "
            f"Received: input_range={input_range!r}"
        )
    low = check_number("input_range[0]", input_range[0], -math.inf)
    high = check_number("input_range[1]", input_range[1], -math.inf)
    if low >= high:
        raise ValueError(
            "Argument `input_range` must be `(low, high)` with low < high. "
            f"Received: input_range={tuple(input_range)}"
        )
    return low, high
