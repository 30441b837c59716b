"""``python -m services.listener.door``: a receiver, started by the listener's main process."""

import sys

from services.listener.door.receiver import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
