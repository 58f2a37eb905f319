"""Decoding graphs: lexicon, language model and CTC topology composed into one transducer, cached by content."""
