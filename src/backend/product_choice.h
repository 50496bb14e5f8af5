/* What computes f32 products on this machine: the backend's own kernels, or a library that is asked
 * for. Which one is faster is measured once, and the choice is kept in the user's folder of caches,
 * so that a command gives the same bytes whenever it runs: times differ from run to run. Where it
 * cannot be kept it is not made. */
#ifndef LA_BACKEND_PRODUCT_CHOICE_H
#define LA_BACKEND_PRODUCT_CHOICE_H

#include "base/products.h"

/* Takes the library that LAPLORA_PRODUCTS names ("openblas", "onednn"); for "auto" the choice that
 * is kept, else measures; unset: none, the own kernels. Once in a process. LA_USAGE: the variable
 * names none; LA_UNSUPPORTED: it names one that cannot be had. */
la_status la_products_choose(la_error *err);

/* Whether products of bf16 may be used: LA_UNSUPPORTED, with the reason, where no library has them
 * or LAPLORA_PRODUCTS names one that does not. *gain: how many times as fast as the chosen f32 they
 * are on large shapes; 0: not known. After la_products_choose. */
la_status la_products_check_bf16(double *gain, la_error *err);

/* A line for people: which library computes what, how fast, and who said so. */
enum { LA_PRODUCTS_TEXT = 512 };
void la_products_describe(char text[LA_PRODUCTS_TEXT]);

#endif
