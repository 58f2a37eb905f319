"""Fills a folder with the model repository and the built models, for a Triton that serves it from there.

python fill.py FOLDER
"""

import sys
from pathlib import Path

from pipelines.paths import model_repo_dir, models_dir
from pipelines.triton.repository import fill

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    filled = fill(model_repo_dir(), Path(sys.argv[1]), models_dir(), lambda text: print(text, file=sys.stderr))
    print("\n".join(filled))
