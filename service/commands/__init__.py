"""One public function, one change, one sentence of the product."""
