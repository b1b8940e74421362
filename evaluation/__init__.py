"""How well anomaly scores find anomalies, and whether their alarms keep their rate: measured over public sets."""
