import sys

import pytest

from tracecore.command_line.options import require_packages
from tracecore.errors import OptionError


def test_without_its_packages_the_complaint_names_the_command_that_installs_them() -> None:
    require_packages("--report", "json")
    install = f"--report: found 'no no_such_module'.*{sys.executable} -m pip install no_such_module"
    with pytest.raises(OptionError, match=install):
        require_packages("--report", "json", "no_such_module")
