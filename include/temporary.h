/* Folders and files that do not outlive the process: a signal that ends it removes them first. What
 * SIGKILL leaves of a data folder the next call removes. */
#pragma once
#include "base.h"

/* Makes an empty folder in TMPDIR, or in /tmp, guarded from the start. */
bool temporary_make(char folder[1024], Error *e);
/* Deletes a folder of plain files, and what guards it. Files that are mapped stay readable. */
void temporary_remove(const char *folder);

/* A folder of plain files, or a file, there or not yet. Four at most, by the main thread alone; the
 * string lives until it is released. */
void temporary_guard(const char *path);
void temporary_release(const char *path);
