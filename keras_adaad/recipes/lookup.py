"""Functions to look the published recipes up."""

from keras_adaad.recipes.published import ALL
from keras_adaad.recipes.recipe import Recipe
from keras_adaad.recipes.recipe import pixels


def get(name: str, dataset: str) -> Recipe:
    """Returns a published recipe.

    Args:
        name: Name of the recipe, e.g. `"AdaAD"`. `"IGDM"` is AdaAD with IGDM,
            and `"AdaAD-generated"` is AdaAD with generated data.
        dataset: `"cifar10"`, `"cifar100"` or `"tiny_imagenet"`.

    Returns:
        A `keras_adaad.recipes.Recipe`.

    Raises:
        ValueError: If there is no such recipe.

    Example:

    ```python
    print(keras_adaad.recipes.get("AdaAD", "cifar10"))
    ```
    """
    for recipe in ALL:
        if (recipe.name, recipe.dataset) == (name, dataset):
            return recipe
    raise ValueError(
        "Arguments `name` and `dataset` must be a pair of "
        f"`keras_adaad.recipes.list_recipes()`, {list_recipes()}. "
        f"Received: name={name!r}, dataset={dataset!r}"
    )


def list_recipes(dataset: str | None = None) -> list[tuple[str, str]]:
    """Returns the names and data sets of the published recipes.

    Args:
        dataset: Data set to select. Defaults to all.

    Returns:
        A list of pairs of strings `(name, dataset)`.
    """
    pairs = [(recipe.name, recipe.dataset) for recipe in ALL]
    return [pair for pair in pairs if dataset in (None, pair[1])]


def table(dataset: str | None = None) -> str:
    """Returns the recipes as a Markdown table.

    Args:
        dataset: Data set to select. Defaults to all.

    Returns:
        A string.
    """
    head = (
        "recipe|data|epochs|schedule|weight decay|batch|epsilon|start|average"
    )
    rows = [head.split("|"), ["---"] * 9]
    for recipe in ALL:
        if dataset in (None, recipe.dataset):
            rows.append(
                [
                    recipe.name,
                    recipe.dataset,
                    str(recipe.epochs),
                    str(recipe.schedule),
                    f"{recipe.weight_decay:g}",
                    str(recipe.batch_size),
                    pixels(recipe.epsilon),
                    recipe.start,
                    recipe.average_text(),
                ]
            )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
