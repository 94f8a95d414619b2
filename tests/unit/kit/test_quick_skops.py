"""skops trusts the same names, however it was loaded."""

import subprocess
import sys

SCRIPT = """
import pandas
from sklearn.linear_model import LogisticRegression
from modelyard.kit.quick_skops import skops_io
skops = skops_io()
import numpy as np, scipy.special, sys
from skops.io import _trusted_types as trusted, _utils as utils
assert utils.whichmodule.__module__ == "skops.io._utils"
assert not any(type(each).__module__.startswith("modelyard") for each in sys.meta_path)
assert trusted.SCIPY_UFUNC_TYPE_NAMES and trusted.NUMPY_UFUNC_TYPE_NAMES
for module, names in ((scipy.special, trusted.SCIPY_UFUNC_TYPE_NAMES), (np, trusted.NUMPY_UFUNC_TYPE_NAMES)):
    assert set(utils.get_public_type_names(module=module, oftype=np.ufunc)) <= set(names)
assert skops_io() is skops
"""


def test_a_quick_load_trusts_what_a_plain_one_does():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
