"""One file a paper, named as the paper is: each holds ``CARD``. ``lamina.bench.catalog`` lists them."""
