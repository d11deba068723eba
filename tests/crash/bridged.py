"""The application whose bridge is killed: two topics both ways, with a region called `eu`."""

from pydantic import BaseModel

from headwater import App, Bridge, Topic


class Flight(BaseModel):
    id: str


flights = Topic("flights", Flight, partitions=3)
plans = Topic("plans", Flight)

app = App("bridged", bridges=[Bridge("eu", topics=[flights, plans])])
