/* usage: posterior_fields table | dictionary */
#include "support/schema.h"

#include <string.h>

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "table"))
        schema_table(stdout);
    else if (argc == 2 && !strcmp(argv[1], "dictionary"))
        schema_dictionary(stdout);
    else
        return 2;
    return 0;
}
