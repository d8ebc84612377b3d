#include "xfetch.h"

#include <math.h>

bool xfetch_is_due(uint64_t remaining_ms, uint32_t cost_ms, double beta, double random)
{
    if (beta <= 0 || cost_ms == 0)
        return false;
    return -(double)cost_ms * beta * log(random) >= (double)remaining_ms;
}
