"""What an experiment is: typed settings, what of them decides a result, how they are checked."""
