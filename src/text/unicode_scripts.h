/* Scripts of characters, for UnicodeScripts. */
#ifndef LA_TEXT_UNICODE_SCRIPTS_H
#define LA_TEXT_UNICODE_SCRIPTS_H

#include <stdbool.h>
#include <stdint.h>

/* Number shared by the characters of one script; 0: none (the space, characters without one). */
int la_unicode_script(int32_t code);

#endif
