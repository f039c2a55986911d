"""The teacher, the student and the digits of the guide to methods."""

from tests.docs.preludes.your_own_method import make_student  # noqa: F401
from tests.docs.preludes.your_own_method import teacher  # noqa: F401
from tests.docs.preludes.your_own_method import x_test  # noqa: F401
from tests.docs.preludes.your_own_method import x_train  # noqa: F401
from tests.docs.preludes.your_own_method import y_test  # noqa: F401
