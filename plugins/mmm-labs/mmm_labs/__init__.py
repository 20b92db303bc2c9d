"""Laboratory values for mmm: a modality (``Labs``) and two targets on one token (``LabCode``, ``LabValue``)."""
