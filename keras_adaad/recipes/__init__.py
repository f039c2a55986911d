"""The published training recipes and their results, as data."""

from keras_adaad.recipes.lookup import get as get
from keras_adaad.recipes.lookup import list_recipes as list_recipes
from keras_adaad.recipes.lookup import table as table
from keras_adaad.recipes.recipe import Recipe as Recipe
from keras_adaad.recipes.results import PublishedResult as PublishedResult
from keras_adaad.recipes.results import published_results as published_results
from keras_adaad.recipes.schedules import Cosine as Cosine
from keras_adaad.recipes.schedules import Drops as Drops
from keras_adaad.recipes.schedules import LateCosine as LateCosine
