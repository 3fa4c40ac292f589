/* GenApi schema 1.1: the order of the elements within a node is the schema's. */
#define _GNU_SOURCE
#include "xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const visibilities[] = {"Beginner", "Expert", "Guru", "Invisible"};

static void begin(FILE *out, const char *element, const struct feature *row)
{
    fprintf(out, "<%s Name=\"%s\" NameSpace=\"Standard\"><ToolTip>%s</ToolTip>", element, row->name,
            row->tip);
    fprintf(out, "<Visibility>%s</Visibility>", visibilities[row->visibility]);
    if (row->flags & LOCKED)
        fputs("<pIsLocked>TLParamsLocked</pIsLocked>", out);
}

static void value_of(FILE *out, const struct feature *row)
{
    fprintf(out, "<pValue>%sReg</pValue>", row->name);
}

static void selected_by(FILE *out, const struct feature *row)
{
    for (const char *at = row->selected; at && *at; at += strspn(at, " ")) {
        int length = (int)strcspn(at, " ");
        fprintf(out, "<pSelected>%.*s</pSelected>", length, at);
        at += length;
    }
}

static void limits(FILE *out, const struct feature *row)
{
    fprintf(out, "<Min>%.17g</Min>", row->min);
    if (row->max_from)
        fprintf(out, "<pMax>%s</pMax>", row->max_from);
    else
        fprintf(out, "<Max>%.17g</Max>", row->max);
    if (row->kind == INTEGER)
        fprintf(out, "<Inc>%g</Inc>", row->inc > 0 ? row->inc : 1);
}

static void unit(FILE *out, const struct feature *row)
{
    if (row->unit)
        fprintf(out, "<Unit>%s</Unit>", row->unit);
}

static void entries(FILE *out, const struct feature *row)
{
    for (const char *at = row->entries; *at; at += strspn(at, " ")) {
        int name = (int)strcspn(at, "=");
        int whole = (int)strcspn(at, " ");
        fprintf(out, "<EnumEntry Name=\"%.*s\" NameSpace=\"Standard\"><Value>%.*s</Value>", name, at,
                whole - name - 1, at + name + 1);
        fputs("</EnumEntry>", out);
        at += whole;
    }
}

static const char *access_of(const struct feature *row)
{
    if (row->kind >= CHUNK_INTEGER || row->flags & READ_ONLY)
        return "RO";
    return row->kind == COMMAND ? "WO" : "RW";
}

/* The node that reads and writes the bytes. */
static void reg(FILE *out, const struct feature *row, const char *port)
{
    bool chunk = row->kind >= CHUNK_INTEGER;
    bool floating = row->kind == FLOATING || row->kind == CHUNK_FLOAT;
    const char *element = row->kind == STRING ? "StringReg" : floating ? "FloatReg" : "IntReg";
    unsigned address = chunk ? 0 : row->reg * 8;
    if (row->kind == STRING)
        address = (unsigned)ADDRESS_STRINGS + row->reg * STRING_SIZE;
    fprintf(out, "<%s Name=\"%sReg\"><Address>0x%x</Address>", element, row->name, address);
    fprintf(out, "<Length>%d</Length>", row->kind == STRING ? STRING_SIZE : 8);
    fprintf(out, "<AccessMode>%s</AccessMode>", access_of(row));
    if (chunk)
        fprintf(out, "<pPort>%sPort</pPort>", row->name);
    else
        fprintf(out, "<pPort>%s</pPort>", port);
    fputs("<Cachable>NoCache</Cachable>", out);
    if (element[0] == 'I')
        fputs("<Sign>Signed</Sign>", out);
    if (row->kind != STRING)
        fputs("<Endianess>LittleEndian</Endianess>", out);
    fprintf(out, "</%s>\n", element);
    if (chunk)
        fprintf(out, "<Port Name=\"%sPort\"><ChunkID>%08X</ChunkID></Port>\n", row->name, row->reg);
}

static void node(FILE *out, const struct feature *row)
{
    static const char *const elements[] = {"Integer", "Float",  "Enumeration", "Boolean",
                                           "Command", "String", "Integer",     "Float"};
    const char *element = elements[row->kind];
    begin(out, element, row);
    if (row->kind == ENUMERATION)
        entries(out, row);
    value_of(out, row);
    if (row->kind == INTEGER || row->kind == FLOATING)
        limits(out, row);
    if (row->kind == COMMAND)
        fputs("<CommandValue>1</CommandValue>", out);
    if (row->kind == BOOLEAN)
        fputs("<OnValue>1</OnValue><OffValue>0</OffValue>", out);
    unit(out, row);
    selected_by(out, row);
    fprintf(out, "</%s>\n", element);
}

static bool first_of_category(const struct feature *rows, size_t index)
{
    return index == 0 || strcmp(rows[index - 1].category, rows[index].category) != 0;
}

/* Rows of one category are neighbours. */
static void categories(FILE *out, const struct feature *rows, size_t count)
{
    fputs("<Category Name=\"Root\" NameSpace=\"Standard\">", out);
    for (size_t i = 0; i < count; i++)
        if (first_of_category(rows, i))
            fprintf(out, "<pFeature>%s</pFeature>", rows[i].category);
    fputs("</Category>\n", out);
    for (size_t i = 0; i < count; i++) {
        if (first_of_category(rows, i))
            fprintf(out, "<Category Name=\"%s\" NameSpace=\"Standard\">", rows[i].category);
        fprintf(out, "<pFeature>%s</pFeature>", rows[i].name);
        if (i + 1 == count || first_of_category(rows, i + 1))
            fputs("</Category>\n", out);
    }
}

char *xml_write(const char *model, const char *port, const struct feature *rows, size_t count)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fprintf(out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<RegisterDescription ModelName=\"%s\" VendorName=\"inspectd\""
            " ToolTip=\"inspectd's virtual camera\" StandardNameSpace=\"None\""
            " SchemaMajorVersion=\"1\" SchemaMinorVersion=\"1\" SchemaSubMinorVersion=\"0\""
            " MajorVersion=\"1\" MinorVersion=\"0\" SubMinorVersion=\"0\""
            " ProductGuid=\"5f3a2c1e-6d1b-4d0a-9a57-1f0c5b8e7a10\""
            " VersionGuid=\"0b9f7f64-2f8e-4a7e-8c1d-7c3c0a1d2e51\""
            " xmlns=\"http://www.genicam.org/GenApi/Version_1_1\">\n",
            model);
    categories(out, rows, count);
    for (size_t i = 0; i < count; i++) {
        node(out, &rows[i]);
        reg(out, &rows[i], port);
    }
    fprintf(out, "<Port Name=\"%s\" NameSpace=\"Standard\"></Port>\n</RegisterDescription>\n", port);
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}
