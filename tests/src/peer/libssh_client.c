/* libssh as a program that behaves like ssh: METHOD SECRET PORT HOST exec|pty|sftp WORDS...
 *
 * `pty` makes its terminal larger once the program has shown a line. `sftp` is followed by
 * put or get, from and to. */

#include <fcntl.h>
#include <libssh/libssh.h>
#include <libssh/sftp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char buffer[32768], shown[32768];

static void check(int ok, ssh_session session, const char *what) {
    if (ok) return;
    fprintf(stderr, "%s: %s\n", what, ssh_get_error(session));
    exit(255);
}

static int log_in(ssh_session session, const char *method, const char *secret) {
    int round = ssh_userauth_none(session, NULL);
    if (strcmp(method, "password") == 0) return ssh_userauth_password(session, NULL, secret);
    if (strcmp(method, "publickey") == 0) {
        ssh_key key;
        if (ssh_pki_import_privkey_file(secret, NULL, NULL, NULL, &key) != SSH_OK) return -1;
        return ssh_userauth_publickey(session, NULL, key);
    }
    while ((round = ssh_userauth_kbdint(session, NULL, NULL)) == SSH_AUTH_INFO)
        for (int i = 0; i < ssh_userauth_kbdint_getnprompts(session); i++)
            ssh_userauth_kbdint_setanswer(session, i, secret);
    return round;
}

/* Whatever has come, to standard output and error; 0 once there is nothing. */
static int drain(ssh_channel channel) {
    int count = 0, bytes;
    for (int is_error = 0; is_error < 2; is_error++)
        while ((bytes = ssh_channel_read_nonblocking(channel, shown, sizeof shown, is_error)) > 0)
            count += write(is_error ? 2 : 1, shown, bytes) == bytes;
    return count;
}

static int run(ssh_session session, ssh_channel channel, const char *command) {
    struct pollfd server = {ssh_get_fd(session), POLLIN, 0};
    ssize_t bytes;
    check(ssh_channel_request_exec(channel, command) == SSH_OK, session, "exec");
    while ((bytes = read(0, buffer, sizeof buffer)) > 0)
        for (ssize_t sent = 0; sent < bytes;) {
            /* What has come is read first, or both sides wait for credit. */
            drain(channel);
            uint32_t credit = ssh_channel_window_size(channel);
            uint32_t left = bytes - sent;
            if (credit == 0) { poll(&server, 1, 1000); continue; }
            int written = ssh_channel_write(channel, buffer + sent, left < credit ? left : credit);
            check(written >= 0, session, "write");
            sent += written;
        }
    ssh_channel_send_eof(channel);
    while (drain(channel) || !ssh_channel_is_eof(channel)) poll(&server, 1, 10);
    return ssh_channel_get_exit_status(channel);
}

static int resize(ssh_session session, ssh_channel channel, const char *command) {
    char byte = 0;
    check(ssh_channel_request_pty_size(channel, "xterm", 90, 30) == SSH_OK, session, "pty");
    check(ssh_channel_request_exec(channel, command) == SSH_OK, session, "exec");
    while (byte != '\n' && ssh_channel_read(channel, &byte, 1, 0) == 1) putchar(byte);
    fflush(stdout);
    check(ssh_channel_change_pty_size(channel, 121, 41) == SSH_OK, session, "resize");
    ssh_channel_write(channel, "typed\r", 6);
    while (!ssh_channel_is_eof(channel) || drain(channel)) drain(channel);
    return ssh_channel_get_exit_status(channel);
}

static void copy(ssh_session session, char *const *words) {
    int put = strcmp(words[0], "put") == 0;
    sftp_session sftp = sftp_new(session);
    check(sftp != NULL && sftp_init(sftp) == SSH_OK, session, "sftp");
    int there = put ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY;
    sftp_file remote = sftp_open(sftp, words[put ? 2 : 1], there, 0644);
    int local = put ? open(words[1], O_RDONLY) : open(words[2], O_WRONLY | O_CREAT, 0644);
    ssize_t bytes, written;
    check(remote != NULL, session, "open");
    do {
        bytes = put ? read(local, buffer, sizeof buffer) : sftp_read(remote, buffer, sizeof buffer);
        written = put ? sftp_write(remote, buffer, bytes) : write(local, buffer, bytes);
        check(bytes >= 0 && written == bytes, session, "copy");
    } while (bytes > 0);
    sftp_close(remote);
    sftp_free(sftp);
}

int main(int count, char **words) {
    int code = 0, off = 0;
    if (count < 7) return 255;
    ssh_session session = ssh_new();
    ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &off);
    ssh_options_set(session, SSH_OPTIONS_PORT_STR, words[3]);
    ssh_options_set(session, SSH_OPTIONS_HOST, words[4]);
    ssh_options_set(session, SSH_OPTIONS_USER, "alice");
    check(ssh_connect(session) == SSH_OK, session, "connect");
    check(log_in(session, words[1], words[2]) == SSH_AUTH_SUCCESS, session, "log in");
    if (strcmp(words[5], "sftp") == 0) {
        copy(session, words + 6);
    } else {
        ssh_channel channel = ssh_channel_new(session);
        check(ssh_channel_open_session(channel) == SSH_OK, session, "open");
        int is_pty = strcmp(words[5], "pty") == 0;
        code = (is_pty ? resize : run)(session, channel, words[6]);
        ssh_channel_free(channel);
    }
    ssh_disconnect(session);
    ssh_free(session);
    return code;
}
