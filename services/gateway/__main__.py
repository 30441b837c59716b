"""``python -m services.gateway``"""

from services.common.service import main
from services.gateway.service import open_gateway

# Health and metrics are routes of the gateway itself.
main("gateway", None, open_gateway)
