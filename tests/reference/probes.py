"""The ridge read-out of every fold from its definition: scikit-learn on the training samples, all held in memory."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler


def ridge_accuracy_by_fold(x: np.ndarray, y: np.ndarray, fold: np.ndarray, strength: float) -> list[float]:
    """Share of the samples of each fold that the read-out of all others classifies rightly."""
    found = []
    for k in sorted(set(fold.tolist())):
        scaler = StandardScaler().fit(x[fold != k])
        model = RidgeClassifier(alpha=1 / strength).fit(scaler.transform(x[fold != k]), y[fold != k])
        found.append(float((model.predict(scaler.transform(x[fold == k])) == y[fold == k]).mean()))
    return found
