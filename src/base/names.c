#include "base/names.h"

#include <string.h>

size_t la_edit_distance(const char *a, const char *b) {
    enum { MOST = 256 };
    size_t row[MOST + 1], n = strlen(b) < MOST ? strlen(b) : MOST;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t up = row[j + 1], best = corner + (a[i] != b[j]);
            best = up + 1 < best ? up + 1 : best;
            best = row[j] + 1 < best ? row[j] + 1 : best;
            corner = up;
            row[j + 1] = best;
        }
    }
    return row[n];
}
