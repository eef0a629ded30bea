"""The Aggregator API: its endpoints; `AggregatorClient` has the methods itself."""

from typing import Final

from flip_async._endpoint import ANY_JSON, JSON_OBJECT, NO_CONTENT, Endpoint

FLEET_SITES: Final = Endpoint(method="GET", path="/v1/sites", token="client", returns=ANY_JSON)
PERFORMANCE: Final = Endpoint(
    method="GET", path="/v1/reports/equipment_performance", token="client", returns=ANY_JSON
)
FLEET_DATA: Final = Endpoint(
    method="POST", path="/v1/fleet-data", token="client", returns=JSON_OBJECT
)
REGISTER: Final = Endpoint(method="POST", path="/v1/commission", token="client", returns=NO_CONTENT)
