#include "support/markup.h"
#include "support/support.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Reads one tag at `c`; returns what follows it. Tracks open elements in `stack`. */
static const char *check_tag(const char *c, char stack[][32], int *depth) {
    bool closing = c[1] == '/', special = c[1] == '?' || c[1] == '!';
    const char *name = c + 1 + (closing || special), *end = c;
    size_t length = strcspn(name, " />?\n");
    while (*end && *end != '>') {
        if (*end == '"')
            end = strchr(end + 1, '"');
        if (!end)
            fail_msg("a quote is not closed at %.40s", c);
        end++;
    }
    assert_true(*end == '>' && length < 32 && length > 0);
    if (closing) {
        if (!*depth || strncmp(stack[*depth - 1], name, length) || stack[*depth - 1][length])
            fail_msg("</%.*s> closes nothing", (int)length, name);
        --*depth;
    } else if (!special && end[-1] != '/') {
        assert_in_range(*depth, 0, 15);
        snprintf(stack[(*depth)++], 32, "%.*s", (int)length, name);
    }
    return end + 1;
}

void check_markup(const char *text) {
    char stack[16][32];
    int depth = 0;
    for (const char *c = text; *c;) {
        if (*c == '<') {
            c = check_tag(c, stack, &depth);
        } else if (*c == '&') {
            size_t length = strcspn(c, ";");
            assert_true(length == 3 || length == 4 || length == 5);
            assert_true(!strncmp(c, "&lt;", 4) || !strncmp(c, "&gt;", 4) ||
                        !strncmp(c, "&amp;", 5) || !strncmp(c, "&quot;", 6) ||
                        !strncmp(c, "&#39;", 5));
            c += length;
        } else {
            assert_true((unsigned char)*c >= 0x20 || *c == '\n');
            c++;
        }
    }
    assert_int_equal(depth, 0);
}
