"""Where a training will be between lazy and rich, before it begins."""

from geomfeat.forecasting._forecast import forecast
from geomfeat.forecasting.options import ForecastOptions
from geomfeat.forecasting.result import Forecast

__all__ = ["Forecast", "ForecastOptions", "forecast"]
