"""The composition: settings, urls and the dispatcher process. Nothing imports this package."""
