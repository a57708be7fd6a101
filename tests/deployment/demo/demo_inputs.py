"""Inputs of the tests of the page."""

# Clips to choose from, as few as a test needs.
FEW_CLIPS = {"num_train": 2, "num_validation": 2, "num_test": 6}
HOSTILE = '<script>window.hostile = 1</script><img src=x onerror="window.hostile = 1"> ${window.hostile = 1} {{value}}'
# A right-to-left text, and marks that turn what follows around.
HEBREW = "החדר היה נקי והצוות אדיב מאוד"
TURNED = "The room \u202ewas good\u202d and \u2067clean"
