/*
 * A layer between a program and the system that fails on purpose: loaded with LD_PRELOAD, it counts the calls
 * that change files under one directory and those on TCP sockets, and lets one of them go wrong.
 *
 * Settings, read once from the environment:
 *   CMS_FAULT_DIR      the directory whose files count
 *   CMS_FAULT_LOG      where it says what it did; one line for the fault, "steps N" at a clean end
 *   CMS_FAULT_TRACE    set: one line for each step too
 *   CMS_FAULT_AT       the number of the step, from 1; 0 or nothing: none
 *   CMS_FAULT          kill      SIGKILL in place of the step
 *                      after     SIGKILL when the step is done
 *                      torn      half of a send, or the sectors of the first half of a write, then SIGKILL;
 *                                a write within one sector happens or does not
 *                      power     what was not synced is undone, then SIGKILL
 *                      once      the step fails with CMS_FAULT_ERRNO (a socket: connection reset)
 *                      ever      each step of a file fails from this one on
 *                      lost      the step fails once; of a sync: what it should have made last is undone
 *   CMS_FAULT_ERRNO    the number of the error
 *   CMS_FAULT_KIND     only steps of this kind count, for example "sync"
 *   CMS_FAULT_SEED     power: not 0: sectors and names that were not synced survive at random
 *   CMS_FAULT_REFUSED  the first so many connections are refused
 *   CMS_FAULT_ROOM     a file with a number: while it is there, files may grow by so many bytes together, then ENOSPC
 *
 * A power cut loses the writes since the last fsync of their file, and the names that were made, replaced or
 * removed since the last fsync of their directory. That is all that POSIX promises, and less than most file
 * systems keep. Files mapped into memory (SQLite's -shm) survive nothing and are left out of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 4096
#define SECTOR 512

enum mode { NONE, KILL, AFTER, TORN, POWER, ONCE, EVER, LOST };
enum verdict { GO, GO_AND_DIE, HALF_AND_DIE, FAIL };

static char directory[PATH_MAX];
static size_t directory_length;
static const char *only_kind, *room_file;
static enum mode mode;
static long fault_at, steps, refused, grown;
static int fault_errno = EIO, log_fd = -1, tracing, met;
static uint64_t seed;

/* What each descriptor is: the path of a file under the directory, or "tcp". */
static char *opened[FDS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void say(const char *format, ...)
{
    char line[PATH_MAX + 128];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    if (log_fd >= 0 && length > 0)
        syscall(SYS_write, log_fd, line, (size_t)length);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void)
{
    static const char *const modes[] = {"", "kill", "after", "torn", "power", "once", "ever", "lost"};
    const char *text = getenv("CMS_FAULT_DIR");
    if (!text)
        return;
    directory_length = strlen(text);
    snprintf(directory, sizeof directory, "%s", text);
    if ((text = getenv("CMS_FAULT_LOG")))
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    text = getenv("CMS_FAULT");
    for (int i = KILL; text && i <= LOST; i++)
        if (strcmp(text, modes[i]) == 0)
            mode = (enum mode)i;
    fault_at = number("CMS_FAULT_AT");
    if (getenv("CMS_FAULT_ERRNO"))
        fault_errno = (int)number("CMS_FAULT_ERRNO");
    seed = (uint64_t)number("CMS_FAULT_SEED");
    refused = number("CMS_FAULT_REFUSED");
    tracing = getenv("CMS_FAULT_TRACE") != NULL;
    only_kind = getenv("CMS_FAULT_KIND");
    room_file = getenv("CMS_FAULT_ROOM");
}

__attribute__((destructor)) static void end(void)
{
    if (directory_length)
        say("steps %ld\n", steps);
}

/* The directory that the directory's own name is in: only its sync counts. */
static int is_above(const char *path)
{
    const char *slash = directory_length ? strrchr(directory, '/') : NULL;
    size_t length = strlen(path);
    return slash && (size_t)(slash - directory) == length && strncmp(path, directory, length) == 0;
}

static int is_ours(const char *path)
{
    return directory_length && strncmp(path, directory, directory_length) == 0 &&
           (path[directory_length] == '/' || path[directory_length] == 0);
}

static const char *of(int fd)
{
    return fd >= 0 && fd < FDS_MAX ? opened[fd] : NULL;
}

static int is_tcp(int fd)
{
    const char *what = of(fd);
    return what && strcmp(what, "tcp") == 0;
}

static void remember(int fd, const char *what)
{
    if (fd < 0 || fd >= FDS_MAX)
        return;
    free(opened[fd]);
    opened[fd] = what ? strdup(what) : NULL;
}

/* ---- The power cut: what has been written and is not synced, newest first. ---- */

struct change {
    struct change *older;
    enum { WRITTEN, CUT, MADE, MADE_DIRECTORY, RENAMED, REMOVED } what;
    dev_t device;
    ino_t inode;
    int fd;        /* onto the same file, kept open: to close it would drop SQLite's locks */
    off_t offset, size_before;
    size_t length, length_before;
    char *before, *after, *path, *kept;
};

static struct change *newest;
static long backups;

static uint64_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static int is_journalled(const char *path)
{
    size_t length = strlen(path);
    return (mode == POWER || mode == LOST) && (length < 4 || strcmp(path + length - 4, "-shm") != 0);
}

static struct change *note(int what, const char *path)
{
    struct change *change = calloc(1, sizeof *change);
    change->what = what;
    change->path = strdup(path);
    change->older = newest;
    newest = change;
    return change;
}

/* Before a write or truncation of a file: keeps the bytes that it replaces. */
static void note_bytes(int what, int fd, const void *bytes, size_t length, off_t offset)
{
    static struct { dev_t device; ino_t inode; int fd; } files[64];
    struct stat found;
    const char *path = of(fd);
    if (!path || !is_journalled(path) || fstat(fd, &found) != 0)
        return;
    struct change *change = note(what, path);
    change->device = found.st_dev;
    change->inode = found.st_ino;
    change->size_before = found.st_size;
    change->offset = offset;
    change->length = length;
    change->fd = -1;
    for (int i = 0; i < 64 && change->fd < 0; i++) {
        if (!files[i].inode) {
            char again[64];
            snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
            files[i].device = found.st_dev;
            files[i].inode = found.st_ino;
            files[i].fd = (int)syscall(SYS_openat, AT_FDCWD, again, O_RDWR | O_CLOEXEC, 0);
        }
        if (files[i].inode == found.st_ino && files[i].device == found.st_dev)
            change->fd = files[i].fd;
    }
    size_t span = what == CUT ? (size_t)(found.st_size > offset ? found.st_size - offset : 0) : length;
    change->before = malloc(span + 1);
    ssize_t got = pread(change->fd, change->before, span, offset);
    change->length_before = got > 0 ? (size_t)got : 0;
    if (bytes) {
        change->after = malloc(length + 1);
        memcpy(change->after, bytes, length);
    }
}

/* Before a name goes away: another name for the same file, outside of the directory. */
static char *keep(const char *path)
{
    char name[PATH_MAX + 32];
    snprintf(name, sizeof name, "%s.kept-%ld", directory, backups++);
    return syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, name, 0) == 0 ? strdup(name) : NULL;
}

static int is_in(const char *path, const char *folder)
{
    const char *slash = strrchr(path, '/');
    size_t length = strlen(folder);
    return slash && (size_t)(slash - path) == length && strncmp(path, folder, length) == 0;
}

static void undo(struct change *change)
{
    switch (change->what) {
    case WRITTEN:
    case CUT:
        syscall(SYS_pwrite64, change->fd, change->before, change->length_before, change->offset);
        syscall(SYS_ftruncate, change->fd, change->size_before);
        break;
    case MADE:
        syscall(SYS_unlinkat, AT_FDCWD, change->path, 0);
        break;
    case MADE_DIRECTORY: {
        char away[PATH_MAX + 32];
        snprintf(away, sizeof away, "%s.kept-%ld", directory, backups++);
        syscall(SYS_renameat2, AT_FDCWD, change->path, AT_FDCWD, away, 0);
        break;
    }
    case RENAMED: /* path is the new name; the old one is gone, like the rest of an unfinished file */
    case REMOVED:
        if (change->kept)
            syscall(SYS_renameat2, AT_FDCWD, change->kept, AT_FDCWD, change->path, 0);
        else if (change->what == RENAMED)
            syscall(SYS_unlinkat, AT_FDCWD, change->path, 0);
        break;
    }
}

/* A sync of a file makes its bytes last, one of a directory the names in it; one that fails loses them. */
static void synced(int fd, int is_lost)
{
    struct stat found;
    const char *path = of(fd);
    if ((mode != POWER && mode != LOST) || !path || fstat(fd, &found) != 0)
        return;
    for (struct change **at = &newest; *at;) {
        struct change *change = *at;
        int concerns = change->what <= CUT
            ? change->inode == found.st_ino && change->device == found.st_dev
            : S_ISDIR(found.st_mode) && is_in(change->path, path);
        if (concerns && is_lost)
            undo(change);
        if (concerns)
            *at = change->older;
        else
            at = &change->older;
    }
}

static void lose_power(void)
{
    long names = 0, count = 0;
    for (struct change *at = newest; at; at = at->older, count++)
        names += at->what > CUT;
    /* File systems journal names in order: a random number of the oldest may have lasted. */
    long lasted = seed ? (long)(chance() % (uint64_t)(names + 1)) : 0;
    struct change *forwards = NULL;
    long left = names;
    for (struct change *at = newest; at;) {
        struct change *older = at->older;
        if (at->what <= CUT || left-- > lasted)
            undo(at);
        at->older = forwards;
        forwards = at;
        at = older;
    }
    for (struct change *at = forwards; seed && at; at = at->older) {
        if (at->what == CUT && chance() % 2)
            syscall(SYS_ftruncate, at->fd, at->offset);
        for (size_t from = 0; at->what == WRITTEN && from < at->length;) {
            size_t to = from + SECTOR - (size_t)((at->offset + (off_t)from) % SECTOR);
            to = to < at->length ? to : at->length;
            if (chance() % 2)
                syscall(SYS_pwrite64, at->fd, at->after + from, to - from, at->offset + (off_t)from);
            from = to;
        }
    }
    say("lost %ld changes of which %ld names, %ld lasted\n", count, names, lasted);
}

/* ---- Counting and deciding. The lock is held. ---- */

static enum verdict step(const char *kind, const char *path, size_t length)
{
    if (!directory_length || (only_kind && strcmp(kind, only_kind) != 0))
        return GO;
    long now = ++steps;
    const char *name = strcmp(path, "tcp") == 0 ? path : is_above(path) ? ".." : path + directory_length;
    if (tracing)
        say("%ld %s %s %zu\n", now, kind, *name ? name : "/", length);
    if (!fault_at || now < fault_at || (now > fault_at && mode != EVER) || mode == NONE)
        return GO;
    if (mode == EVER && strcmp(path, "tcp") == 0)
        return GO;
    if (!met)
        say("fault at %ld: %s %s %zu\n", now, kind, *name ? name : "/", length);
    met = 1;
    switch (mode) {
    case AFTER:
        return GO_AND_DIE;
    case TORN:
        if (length > 1)
            return HALF_AND_DIE;
        die();
        break;
    case POWER:
        lose_power();
        die();
        break;
    case ONCE:
    case EVER:
    case LOST:
        return FAIL;
    default:
        die();
    }
    return GO;
}

/* Whether the files may grow by so much. */
static int has_room(int fd, size_t length, off_t offset)
{
    struct stat found;
    char text[32] = {0};
    if (!room_file || fstat(fd, &found) != 0)
        return 1;
    off_t more = offset + (off_t)length - found.st_size;
    if (more <= 0)
        return 1;
    int room_fd = (int)syscall(SYS_openat, AT_FDCWD, room_file, O_RDONLY | O_CLOEXEC, 0);
    if (room_fd < 0) {
        grown = 0;
        return 1;
    }
    long room = syscall(SYS_read, room_fd, text, sizeof text - 1) > 0 ? strtol(text, NULL, 10) : 0;
    syscall(SYS_close, room_fd);
    if (grown + more > room)
        return 0;
    grown += more;
    return 1;
}

static long done(enum verdict verdict, long result)
{
    if (verdict == GO_AND_DIE || verdict == HALF_AND_DIE)
        die();
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static long failed(int error)
{
    pthread_mutex_unlock(&lock);
    errno = error;
    return -1;
}

/* ---- Files. ---- */

static int open_at(int at, const char *path, int flags, mode_t permissions)
{
    if (!is_ours(path) && !is_above(path))
        return (int)syscall(SYS_openat, at, path, flags, permissions);
    pthread_mutex_lock(&lock);
    enum verdict verdict = GO;
    int is_new = (flags & O_CREAT) && access(path, F_OK) != 0;
    if (is_new || (flags & O_TRUNC))
        verdict = step("open", path, 0);
    if (verdict == FAIL)
        return (int)failed(fault_errno);
    int fd = (int)syscall(SYS_openat, at, path, flags & ~O_TRUNC, permissions);
    if (fd >= 0) {
        remember(fd, path);
        if (is_new && is_journalled(path))
            note(MADE, path);
        if (flags & O_TRUNC) {
            note_bytes(CUT, fd, NULL, 0, 0);
            syscall(SYS_ftruncate, fd, 0);
        }
    }
    return (int)done(verdict, fd);
}

#define OPEN(NAME)                                             \
    int NAME(const char *path, int flags, ...)                 \
    {                                                          \
        va_list values;                                        \
        va_start(values, flags);                               \
        mode_t permissions = (mode_t)va_arg(values, int);      \
        va_end(values);                                        \
        return open_at(AT_FDCWD, path, flags, permissions);    \
    }
OPEN(open)
OPEN(open64)

int close(int fd)
{
    pthread_mutex_lock(&lock);
    remember(fd, NULL);
    pthread_mutex_unlock(&lock);
    return (int)syscall(SYS_close, fd);
}

static ssize_t write_at(int fd, const void *bytes, size_t length, off_t offset, int is_positioned)
{
    pthread_mutex_lock(&lock);
    enum verdict verdict = step("write", of(fd), length);
    if (!is_positioned)
        offset = lseek(fd, 0, SEEK_CUR);
    if (verdict == FAIL)
        return failed(fault_errno);
    if (!has_room(fd, length, offset))
        return failed(ENOSPC);
    if (verdict == HALF_AND_DIE) {
        off_t cut = (offset + (off_t)length / 2) / SECTOR * SECTOR;
        length = cut > offset ? (size_t)(cut - offset) : 0;
    }
    note_bytes(WRITTEN, fd, bytes, length, offset);
    long written = is_positioned ? syscall(SYS_pwrite64, fd, bytes, length, offset)
                                 : syscall(SYS_write, fd, bytes, length);
    return done(verdict, written);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset)
{
    if (!of(fd))
        return syscall(SYS_pwrite64, fd, bytes, length, offset);
    return write_at(fd, bytes, length, offset, 1);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
    return pwrite64(fd, bytes, length, offset);
}

static int sync_file(int fd, long call)
{
    if (!of(fd))
        return (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    enum verdict verdict = step("sync", of(fd), 0);
    if (verdict == FAIL) {
        if (mode == LOST)
            synced(fd, 1);
        return (int)failed(fault_errno);
    }
    long result = syscall(call, fd);
    if (result == 0)
        synced(fd, 0);
    return (int)done(verdict, result);
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

int ftruncate64(int fd, off64_t size)
{
    if (!of(fd))
        return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    enum verdict verdict = step("truncate", of(fd), 0);
    if (verdict == FAIL)
        return (int)failed(fault_errno);
    note_bytes(CUT, fd, NULL, 0, size);
    return (int)done(verdict, syscall(SYS_ftruncate, fd, size));
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int rename(const char *from, const char *to)
{
    if (!is_ours(to))
        return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    pthread_mutex_lock(&lock);
    enum verdict verdict = step("rename", to, 0);
    if (verdict == FAIL)
        return (int)failed(fault_errno);
    if (is_journalled(to)) {
        char *kept = keep(to);
        note(RENAMED, to)->kept = kept;
    }
    return (int)done(verdict, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int unlink(const char *path)
{
    if (!is_ours(path))
        return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&lock);
    enum verdict verdict = step("unlink", path, 0);
    if (verdict == FAIL)
        return (int)failed(fault_errno);
    if (is_journalled(path)) {
        char *kept = keep(path);
        note(REMOVED, path)->kept = kept;
    }
    return (int)done(verdict, syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int mkdir(const char *path, mode_t permissions)
{
    if (!is_ours(path))
        return (int)syscall(SYS_mkdirat, AT_FDCWD, path, permissions);
    pthread_mutex_lock(&lock);
    enum verdict verdict = step("mkdir", path, 0);
    if (verdict == FAIL)
        return (int)failed(fault_errno);
    long result = syscall(SYS_mkdirat, AT_FDCWD, path, permissions);
    if (result == 0 && is_journalled(path))
        note(MADE_DIRECTORY, path);
    return (int)done(verdict, result);
}

/* ---- Sockets: those that this process connects to an internet address. ---- */

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    if (!directory_length || (address->sa_family != AF_INET && address->sa_family != AF_INET6))
        return (int)syscall(SYS_connect, fd, address, length);
    pthread_mutex_lock(&lock);
    enum verdict verdict = step("connect", "tcp", 0);
    if (verdict == FAIL || refused-- > 0)
        return (int)failed(ECONNREFUSED);
    remember(fd, "tcp");
    return (int)done(verdict, syscall(SYS_connect, fd, address, length));
}

static ssize_t send_some(int fd, const void *bytes, size_t length, int flags)
{
    pthread_mutex_lock(&lock);
    enum verdict verdict = step("send", "tcp", length);
    if (verdict == FAIL)
        return failed(ECONNRESET);
    if (verdict == HALF_AND_DIE)
        length /= 2;
    return done(verdict, syscall(SYS_sendto, fd, bytes, length, flags, NULL, 0));
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    if (!is_tcp(fd))
        return syscall(SYS_sendto, fd, bytes, length, flags, NULL, 0);
    return send_some(fd, bytes, length, flags);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    if (is_tcp(fd))
        return send_some(fd, bytes, length, MSG_NOSIGNAL);
    if (of(fd))
        return write_at(fd, bytes, length, 0, 0);
    return syscall(SYS_write, fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    int first = 0;
    while (first + 1 < count && parts[first].iov_len == 0)
        first++;
    if (!is_tcp(fd) || count < 1)
        return syscall(SYS_writev, fd, parts, count);
    /* A short write is allowed: the caller goes on with the rest. */
    return send_some(fd, parts[first].iov_base, parts[first].iov_len, MSG_NOSIGNAL);
}

ssize_t recv(int fd, void *bytes, size_t length, int flags)
{
    /* Looking whether something has come is no step: how often depends on the scheduler. */
    if (!is_tcp(fd) || syscall(SYS_recvfrom, fd, (char[1]){0}, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) < 0)
        return syscall(SYS_recvfrom, fd, bytes, length, flags, NULL, NULL);
    pthread_mutex_lock(&lock);
    enum verdict verdict = step("receive", "tcp", 0);
    if (verdict == FAIL)
        return failed(ECONNRESET);
    return done(verdict, syscall(SYS_recvfrom, fd, bytes, length, flags, NULL, NULL));
}

ssize_t read(int fd, void *bytes, size_t length)
{
    return is_tcp(fd) ? recv(fd, bytes, length, 0) : syscall(SYS_read, fd, bytes, length);
}
