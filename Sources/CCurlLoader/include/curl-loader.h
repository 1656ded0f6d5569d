// libcurl, loaded when a URL is named and not when the program starts: it brings two dozen libraries
// along, and who reads local files need not have it. Neither does the build: what is used of it is
// declared here.
#pragma once
#include <stddef.h>

// Numbers of options and results, from curl/curl.h of curl 8 (https://curl.se/libcurl/c/symbols-in-versions.html).
// They are part of libcurl's binary interface (libcurl.so.4) since 2006 and never change.
enum {
  CCURL_OPT_LONG = 0,
  CCURL_OPT_OBJECT = 10000,
  CCURL_OPT_FUNCTION = 20000,

  CCURL_WRITEDATA = CCURL_OPT_OBJECT + 1,
  CCURL_URL = CCURL_OPT_OBJECT + 2,
  CCURL_RANGE = CCURL_OPT_OBJECT + 7,
  CCURL_ERRORBUFFER = CCURL_OPT_OBJECT + 10,
  CCURL_WRITEFUNCTION = CCURL_OPT_FUNCTION + 11,
  CCURL_USERAGENT = CCURL_OPT_OBJECT + 18,
  CCURL_LOW_SPEED_LIMIT = CCURL_OPT_LONG + 19,
  CCURL_LOW_SPEED_TIME = CCURL_OPT_LONG + 20,
  CCURL_HTTPHEADER = CCURL_OPT_OBJECT + 23,
  CCURL_HEADERDATA = CCURL_OPT_OBJECT + 29,
  CCURL_FOLLOWLOCATION = CCURL_OPT_LONG + 52,
  CCURL_SSL_VERIFYPEER = CCURL_OPT_LONG + 64,
  CCURL_CAINFO = CCURL_OPT_OBJECT + 65,
  CCURL_CONNECTTIMEOUT = CCURL_OPT_LONG + 78,
  CCURL_HEADERFUNCTION = CCURL_OPT_FUNCTION + 79,
  CCURL_HTTPGET = CCURL_OPT_LONG + 80,
  CCURL_SSL_VERIFYHOST = CCURL_OPT_LONG + 81,
  CCURL_HTTP_VERSION = CCURL_OPT_LONG + 84,
  CCURL_CAPATH = CCURL_OPT_OBJECT + 97,
  CCURL_BUFFERSIZE = CCURL_OPT_LONG + 98,
  CCURL_NOSIGNAL = CCURL_OPT_LONG + 99,
  CCURL_PROTOCOLS = CCURL_OPT_LONG + 181,
  CCURL_PATH_AS_IS = CCURL_OPT_LONG + 234,
  CCURL_SUPPRESS_CONNECT_HEADERS = CCURL_OPT_LONG + 265,

  CCURL_HTTP_1_1 = 2,
  CCURL_PROTOCOL_HTTP = 1,
  CCURL_PROTOCOL_HTTPS = 2,
  CCURL_ERROR_SIZE = 256,

  CCURL_INFO_RESPONSE_CODE = 0x200000 + 2,
  CCURL_INFO_REDIRECT_URL = 0x100000 + 31,

  CCURL_OK = 0,
  CCURL_UNSUPPORTED_PROTOCOL = 1,
  CCURL_COULDNT_RESOLVE_PROXY = 5,
  CCURL_COULDNT_RESOLVE_HOST = 6,
  CCURL_COULDNT_CONNECT = 7,
  CCURL_PARTIAL_FILE = 18,
  CCURL_WRITE_ERROR = 23,
  CCURL_OPERATION_TIMEDOUT = 28,
  CCURL_SSL_CONNECT_ERROR = 35,
};

// Takes `size * count` bytes; returning another number ends the transfer.
typedef size_t (*ccurl_take)(char *bytes, size_t size, size_t count, void *context);

// Loads libcurl and starts it. Returns 0, or 1 when the system has none, or 2 when it lacks a function
// (`missing` is then its name), or 3 when it cannot start. Nothing else here may be called before, and
// only one thread may be in here.
int ccurl_load(const char **missing);

// The library's own functions, by their names without `curl_`.
const char *ccurl_version(void);
void *ccurl_easy_init(void);
void ccurl_easy_cleanup(void *handle);
void ccurl_easy_reset(void *handle);
const char *ccurl_easy_strerror(int code);
void *ccurl_slist_append(void *list, const char *text);
void ccurl_slist_free_all(void *list);

// `curl_easy_setopt` for each kind of value.
int ccurl_set_long(void *handle, int option, long value);
int ccurl_set_text(void *handle, int option, const char *value);
int ccurl_set_pointer(void *handle, int option, void *value);
int ccurl_set_take(void *handle, int option, ccurl_take value);

// `curl_easy_getinfo`; `text` is `NULL` where there is none.
int ccurl_get_long(void *handle, int info, long *value);
int ccurl_get_text(void *handle, int info, const char **value);

// `curl_easy_perform`. A connection that the other side closes raises no SIGPIPE.
int ccurl_perform(void *handle);
