"""``python -m services.listener``"""

from services.common.service import main
from services.listener.service import open_listener

main("listener", lambda settings: settings.listener.health_port, open_listener)
