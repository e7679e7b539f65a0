/* Finds the few facts this payload needs in the flattened devicetree. SPDX-License-Identifier: MIT */
#include "payload.h"

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t be64(const uint8_t *p)
{
    return (uint64_t)be32(p) << 32 | be32(p + 4);
}

static int same(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (a[i] != b[i])
            return 0;
        if (!a[i])
            break;
    }
    return 1;
}

/* Node names select the node; every address is two cells, as this virtual machine has it at its root. */
void read_devicetree(const void *dtb)
{
    const uint8_t *base = dtb;
    const uint8_t *p = base + be32(base + 8);
    const char *strings = (const char *)base + be32(base + 12);
    const char *node = "";

    if (be32(base) != 0xd00dfeed)
        return;
    for (;;) {
        uint32_t token = be32(p);

        p += 4;
        if (token == 1) { /* begin node */
            node = (const char *)p;
            while (*p)
                p++;
            p = (const uint8_t *)(((uintptr_t)p + 4) & ~3UL);
            if (same(node, "cpu@", 4))
                platform.cpus++;
        } else if (token == 3) { /* property */
            uint32_t length = be32(p);
            const char *name = strings + be32(p + 4);

            p += 8;
            if (same(name, "reg", 4) && length >= 16) {
                if (same(node, "memory", 6)) {
                    platform.ram_base = be64(p);
                    platform.ram_size = be64(p + 8);
                } else if (same(node, "pl011@", 6) || same(node, "uart@", 5) || same(node, "serial@", 7)) {
                    platform.uart = be64(p);
                } else if (same(node, "intc@", 5) || same(node, "interrupt-controller@", 21)) {
                    platform.gicd = be64(p);
                    platform.gicr = length >= 32 ? be64(p + 16) : 0;
                }
            }
            p += (length + 3) & ~3U;
        } else if (token == 9) { /* end */
            return;
        }
    }
}
