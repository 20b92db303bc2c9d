"""The modality ``ExampleName``, for mmm. Recipes find the class by its name; nothing is registered or imported here."""
