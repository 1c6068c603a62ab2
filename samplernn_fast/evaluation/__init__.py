"""How good a model is: `likelihood` measures it in bits per sample, `clips` says what is wrong with what it makes,
`listening` asks people."""
