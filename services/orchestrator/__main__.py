"""``python -m services.orchestrator``"""

from services.common.service import main
from services.orchestrator.service import open_orchestrator

main("orchestrator", lambda settings: settings.orchestrator.health_port, open_orchestrator)
