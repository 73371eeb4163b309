/* Computes the price of an order such as "3*45;12*320", which are quantities and prices in cents.
 *
 * This file stands for a native library that works on most inputs. Its four mistakes are common in
 * such libraries: a loop that does not advance, an abort instead of an error, a pointer that is not
 * checked, and memory that is never freed. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

uint64_t order_price(const char *order, size_t length) {
    /* Mistake: the copy is never freed. */
    char *at = malloc(length + 1);
    if (at == NULL)
        abort();
    memcpy(at, order, length);
    at[length] = '\0';

    uint64_t price = 0;
    while (*at != '\0') {
        char *end;
        uint64_t quantity = strtoul(at, &end, 10);
        /* Mistake: the loop does not advance if there is no number. */
        if (end == at)
            continue;
        /* Mistake: an invalid order ends the process. */
        if (quantity > 1000)
            abort();
        /* Mistake: `times` is NULL if the order has no further asterisk. */
        const char *times = strchr(end, '*');
        price += quantity * strtoul(times + 1, &at, 10);
        if (*at == ';')
            at++;
    }
    return price;
}
