"""``python -m services.reporting``"""

from services.common.service import main
from services.reporting.service import open_reporting

main("reporting", lambda settings: settings.reporting.health_port, open_reporting)
