"""The published training recipes, as data."""

from keras_adaad.recipes.published_recipes import get as get
from keras_adaad.recipes.published_recipes import list_recipes as list_recipes
from keras_adaad.recipes.published_recipes import table as table
from keras_adaad.recipes.recipe import Recipe as Recipe
