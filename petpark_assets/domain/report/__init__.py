"""Model testing: the exam on photos the network never saw, its verdict, and the page that shows both."""
