/* Checks of XML and HTML that is written. */
#ifndef LA_TESTS_MARKUP_H
#define LA_TESTS_MARKUP_H

/* Fails unless tags balance, attributes are quoted, and nothing is left unescaped. */
void check_markup(const char *text);

#endif
