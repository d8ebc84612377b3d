#include "json.h"

#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "text.h"

struct parser {
    struct json_document *document;
    const char *at;
    const char *end;
    unsigned depth;
    struct json_error error;
    int status;
};

static bool fail(struct parser *parser, const char *where, const char *what)
{
    parser->error = (struct json_error){(uint32_t)(where - parser->document->text), what};
    parser->status = JSON_INVALID;
    return false;
}

static bool grow(struct parser *parser)
{
    struct json_document *document = parser->document;
    if (document->nodes_count >= JSON_NODES_MAX)
        return fail(parser, parser->at, "too many values");
    uint32_t capacity = document->nodes_capacity ? 2 * document->nodes_capacity : 64;
    struct json_node *nodes = realloc(document->nodes, capacity * sizeof *nodes);
    if (!nodes) {
        fail(parser, parser->at, "out of memory");
        parser->status = JSON_NO_MEMORY;
        return false;
    }
    document->nodes = nodes;
    document->nodes_capacity = capacity;
    return true;
}

static inline bool push(struct parser *parser, enum json_type type, bool has_escapes, const char *start,
                        const char *end)
{
    struct json_document *document = parser->document;
    if (document->nodes_count == document->nodes_capacity && !grow(parser))
        return false;
    struct json_node *node = &document->nodes[document->nodes_count++];
    *node = (struct json_node){.type = (unsigned)type & 15u,
                               .has_escapes = has_escapes,
                               .start = (uint32_t)(start - document->text),
                               .size = (uint32_t)(end - start),
                               .end = document->nodes_count};
    return true;
}

static inline void skip_space(struct parser *parser)
{
    while (parser->at < parser->end &&
           (*parser->at == ' ' || *parser->at == '\n' || *parser->at == '\t' || *parser->at == '\r'))
        parser->at++;
}

static inline bool is_digit(const struct parser *parser)
{
    return parser->at < parser->end && *parser->at >= '0' && *parser->at <= '9';
}

static bool skip_digits(struct parser *parser)
{
    if (!is_digit(parser))
        return fail(parser, parser->at, "a number lacks a digit");
    while (is_digit(parser))
        parser->at++;
    return true;
}

static bool parse_number(struct parser *parser)
{
    const char *start = parser->at;
    if (*parser->at == '-')
        parser->at++;
    if (parser->at < parser->end && *parser->at == '0')
        parser->at++; /* nothing but a fraction or an exponent may follow */
    else if (!skip_digits(parser))
        return false;
    if (parser->at < parser->end && *parser->at == '.') {
        parser->at++;
        if (!skip_digits(parser))
            return false;
    }
    if (parser->at < parser->end && (*parser->at == 'e' || *parser->at == 'E')) {
        parser->at++;
        if (parser->at < parser->end && (*parser->at == '+' || *parser->at == '-'))
            parser->at++;
        if (!skip_digits(parser))
            return false;
    }
    return push(parser, JSON_NUMBER, false, start, parser->at);
}

static bool parse_literal(struct parser *parser, enum json_type type, const char *literal, size_t size)
{
    const char *start = parser->at;
    if ((size_t)(parser->end - start) < size || memcmp(start, literal, size) != 0)
        return fail(parser, start, "not a JSON value");
    parser->at += size;
    return push(parser, type, false, start, parser->at);
}

/* --- strings --- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four hex digits at `at`, or -1. */
static int32_t hex4(const char *at, const char *end)
{
    int32_t unit = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(at[i]);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* Checks the escape at the backslash and skips it. */
static bool skip_escape(struct parser *parser)
{
    const char *start = parser->at;
    char kind = parser->end - start < 2 ? '\0' : start[1];
    parser->at += 2;
    if (kind != 'u')
        return kind && strchr("\"\\/bfnrt", kind) ? true : fail(parser, start, "unknown escape in a string");
    int32_t unit = hex4(parser->at, parser->end);
    if (unit < 0)
        return fail(parser, start, "\\u lacks four hex digits");
    parser->at += 4;
    if (unit < 0xd800 || unit > 0xdfff)
        return true;
    bool has_pair =
        unit <= 0xdbff && parser->end - parser->at >= 6 && parser->at[0] == '\\' && parser->at[1] == 'u';
    int32_t low = has_pair ? hex4(parser->at + 2, parser->end) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return fail(parser, start, "half a surrogate pair");
    parser->at += 6;
    return true;
}

/* The first byte from `at` on that ends a run of plain text: quote, backslash, control. Notes bytes above
 * ASCII. */
static inline const char *skip_plain(const char *at, const char *end, bool *has_high)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
    while (end - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i stops =
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)),
                         _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes));
        unsigned stop = (unsigned)_mm_movemask_epi8(stops), high = (unsigned)_mm_movemask_epi8(bytes);
        if (stop) {
            *has_high |= (high & (stop ^ (stop - 1))) != 0; /* up to the first stop, which is ASCII itself */
            return at + __builtin_ctz(stop);
        }
        *has_high |= high != 0;
        at += 16;
    }
#endif
    for (; at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20; at++)
        *has_high |= (unsigned char)*at >= 0x80;
    return at;
}

static bool parse_string(struct parser *parser)
{
    const char *start = ++parser->at;
    bool has_high = false, has_escapes = false;
    for (;;) {
        parser->at = skip_plain(parser->at, parser->end, &has_high);
        if (parser->at == parser->end)
            return fail(parser, start - 1, "a string has no end");
        if (*parser->at == '"')
            break;
        if (*parser->at != '\\')
            return fail(parser, parser->at, "a control character in a string");
        has_escapes = true;
        if (!skip_escape(parser))
            return false;
    }
    if (has_high && !utf8_is_valid(start, (size_t)(parser->at - start)))
        return fail(parser, start, "a string is not UTF-8");
    return push(parser, JSON_STRING, has_escapes, start, parser->at++);
}

/* --- values: recursion goes JSON_DEPTH_MAX deep at most --- */

static bool parse_value(struct parser *parser);

static inline bool take(struct parser *parser, char c)
{
    if (parser->at == parser->end || *parser->at != c)
        return false;
    parser->at++;
    return true;
}

static bool parse_member(struct parser *parser)
{
    if (parser->at == parser->end || *parser->at != '"')
        return fail(parser, parser->at, "expected a name in quotes");
    if (!parse_string(parser))
        return false;
    skip_space(parser);
    if (!take(parser, ':'))
        return fail(parser, parser->at, "expected ':' after a name");
    skip_space(parser);
    return parse_value(parser);
}

static bool parse_container(struct parser *parser, enum json_type type, char close)
{
    const char *start = parser->at;
    uint32_t index = parser->document->nodes_count;
    if (++parser->depth > JSON_DEPTH_MAX)
        return fail(parser, start, "nested too deep");
    if (!push(parser, type, false, start, start))
        return false;
    parser->at++;
    skip_space(parser);
    if (!take(parser, close)) {
        for (;;) {
            if (!(type == JSON_OBJECT ? parse_member(parser) : parse_value(parser)))
                return false;
            skip_space(parser);
            if (take(parser, close))
                break;
            if (!take(parser, ','))
                return fail(parser, parser->at,
                            type == JSON_OBJECT ? "expected ',' or '}'" : "expected ',' or ']'");
            skip_space(parser);
        }
    }
    struct json_node *node = &parser->document->nodes[index];
    node->size = (uint32_t)(parser->at - start);
    node->end = parser->document->nodes_count;
    parser->depth--;
    return true;
}

static bool parse_value(struct parser *parser)
{
    if (parser->at == parser->end)
        return fail(parser, parser->at, "the text ends where a value must stand");
    switch (*parser->at) {
    case '"':
        return parse_string(parser);
    case '{':
        return parse_container(parser, JSON_OBJECT, '}');
    case '[':
        return parse_container(parser, JSON_ARRAY, ']');
    case 't':
        return parse_literal(parser, JSON_TRUE, "true", 4);
    case 'f':
        return parse_literal(parser, JSON_FALSE, "false", 5);
    case 'n':
        return parse_literal(parser, JSON_NULL, "null", 4);
    default:
        if (*parser->at != '-' && !is_digit(parser))
            return fail(parser, parser->at, "not a JSON value");
        return parse_number(parser);
    }
}

int json_parse(struct json_document *document, const char *text, size_t size, struct json_error *ret_error)
{
    struct parser parser = {.document = document, .at = text, .end = text + size};
    document->text = text;
    document->nodes_count = 0;
    if (size > JSON_SIZE_MAX) {
        fail(&parser, text, "the document is too large");
    } else {
        skip_space(&parser);
        if (parse_value(&parser)) {
            skip_space(&parser);
            if (parser.at != parser.end)
                fail(&parser, parser.at, "more text after the value");
        }
    }
    if (parser.status < 0)
        *ret_error = parser.error;
    return parser.status;
}

void json_deinit(struct json_document *document)
{
    free(document->nodes);
    *document = (struct json_document){.text = NULL};
}

/* --- reading what was parsed: escapes are known to be good --- */

static size_t put_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 63));
        out[2] = (char)(0x80 | (code & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 63));
    out[2] = (char)(0x80 | (code >> 6 & 63));
    out[3] = (char)(0x80 | (code & 63));
    return 4;
}

/* Reads one character, escaped or not, and moves *at behind it. @return its bytes, at most 4, in out */
static size_t next_character(const char **at, char out[4])
{
    const char *s = *at;
    if (*s != '\\') {
        out[0] = *s;
        *at = s + 1;
        return 1;
    }
    *at = s + 2;
    switch (s[1]) {
    case 'b':
        out[0] = '\b';
        return 1;
    case 'f':
        out[0] = '\f';
        return 1;
    case 'n':
        out[0] = '\n';
        return 1;
    case 'r':
        out[0] = '\r';
        return 1;
    case 't':
        out[0] = '\t';
        return 1;
    case 'u':
        break;
    default:
        out[0] = s[1];
        return 1;
    }
    uint32_t code = (uint32_t)hex4(s + 2, s + 6);
    *at = s + 6;
    if (code >= 0xd800 && code <= 0xdbff) {
        code = 0x10000 + ((code & 0x3ff) << 10) + ((uint32_t)hex4(s + 8, s + 12) & 0x3ff);
        *at = s + 12;
    }
    return put_utf8(code, out);
}

size_t json_unescape(const struct json_document *document, uint32_t node, char *out)
{
    const char *at = document->text + document->nodes[node].start, *end = at + document->nodes[node].size;
    char *start = out;
    if (!document->nodes[node].has_escapes) {
        memcpy(out, at, (size_t)(end - at));
        return (size_t)(end - at);
    }
    while (at < end) {
        char bytes[4];
        size_t size = next_character(&at, bytes);
        memcpy(out, bytes, size);
        out += size;
    }
    return (size_t)(out - start);
}

static bool escaped_equals(const char *at, const char *end, const char *text, size_t size)
{
    while (at < end) {
        char bytes[4];
        size_t got = next_character(&at, bytes);
        if (got > size || memcmp(bytes, text, got) != 0)
            return false;
        text += got;
        size -= got;
    }
    return size == 0;
}

bool json_string_equals(const struct json_document *document, uint32_t node, const char *text, size_t size)
{
    const struct json_node *n = &document->nodes[node];
    const char *start = document->text + n->start;
    if (n->has_escapes)
        return escaped_equals(start, start + n->size, text, size);
    return n->size == size && memcmp(start, text, size) == 0;
}

uint32_t json_member(const struct json_document *document, uint32_t object, const char *name, size_t size)
{
    const struct json_node *nodes = document->nodes;
    uint32_t found = 0;
    if (nodes[object].type != JSON_OBJECT)
        return 0;
    for (uint32_t i = object + 1; i < nodes[object].end; i = nodes[i + 1].end) {
        if (json_string_equals(document, i, name, size))
            found = i + 1;
    }
    return found;
}
