# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_nights_watch_global_optspecs
    string join \n config= host= port= database= h/help V/version
end

function __fish_nights_watch_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_nights_watch_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_nights_watch_using_subcommand
    set -l cmd (__fish_nights_watch_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c nights-watch -n "__fish_nights_watch_needs_command" -l config -d 'Read this configuration file, which must exist [default: the first of ./nights-watch.ini, /etc/nights-watch.ini, /usr/local/etc/nights-watch.ini, if there is one]' -r -F
complete -c nights-watch -n "__fish_nights_watch_needs_command" -l host -d 'Listen on this address only [default: all interfaces]' -r
complete -c nights-watch -n "__fish_nights_watch_needs_command" -l port -d 'Listen on this port; 0 takes any free one [default: 80]' -r
complete -c nights-watch -n "__fish_nights_watch_needs_command" -l database -d 'Keep watchers in this SQLite database [default: nights-watch.db]' -r
complete -c nights-watch -n "__fish_nights_watch_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -s V -l version -d 'Print version'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "import" -d 'Copy all watchers of an SQLite database, with identifiers and histories, into the store that is configured, and exit'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "openapi" -d 'Print the OpenAPI document of the HTTP interface, and exit'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "create" -d 'Create a watcher, and show it with its trigger URL'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "get" -d 'Show a watcher and its newest events'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "list" -d 'Show watchers in a table: state, when each is due, and what happened last'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "update" -d 'Change a watcher; what is not given stays'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "delete" -d 'Delete a watcher, with its history'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "trigger" -d 'Report that the task of a watcher ran; needs no key'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "pause" -d 'Pause a watcher: it has no deadline until it is unpaused or triggered'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "unpause" -d 'Unpause a watcher: it has its whole periodicity from now'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "exec" -d 'Run a command, and trigger a watcher when it succeeded'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "health" -d 'Ask whether the service is alive; for health checks of containers, and needs no key'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "configure" -d 'Store which service is meant, and the key to it, in a file that only you can read'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "completions" -d 'Print what makes a shell complete these commands, and exit'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "man" -d 'Print the manual page, and exit'
complete -c nights-watch -n "__fish_nights_watch_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand import" -l without-notices -d 'Copy although some notices are still owed, which are not copied'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand import" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand openapi" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand create" -l description -d 'What it is for; mails show it' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand create" -l email -d 'Who is told; give it several times for several addresses' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand create" -l url -d 'The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand create" -l auth-key -d 'The key. Other users of this machine can see it here: better is NIGHTS_WATCH_AUTH_KEY, or what `configure` stores' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand create" -l paused -d 'Begin paused'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand create" -l json -d 'Print the JSON of the service as it is'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand create" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand get" -l name -d 'The watcher with this name' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand get" -l slug -d 'The watcher with this slug' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand get" -l id -d 'The watcher with this identifier' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand get" -l url -d 'The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand get" -l auth-key -d 'The key. Other users of this machine can see it here: better is NIGHTS_WATCH_AUTH_KEY, or what `configure` stores' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand get" -l json -d 'Print the JSON of the service as it is'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand get" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand list" -l search -d 'Only those in whose name, slug, identifier or addresses this regular expression is found' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand list" -l url -d 'The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand list" -l auth-key -d 'The key. Other users of this machine can see it here: better is NIGHTS_WATCH_AUTH_KEY, or what `configure` stores' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand list" -l late -d 'Only those that are late'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand list" -l paused -d 'Only those that are paused'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand list" -l on-time -d 'Only those that are neither late nor paused'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand list" -l brief -d 'Only names and identifiers, which is quicker among very many'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand list" -l json -d 'Print the JSON of the service as it is'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand list" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -l slug -d 'The watcher with this slug' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -l id -d 'The watcher with this identifier' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -l new-name -d 'Call it so from now on; the slug changes with the name' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -l periodicity -d 'How long it may stay silent from its newest event on: seconds, or such as 15m, 25h or 1h30m' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -l description -d 'What it is for; an empty text for nothing' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -l email -d 'Who is told instead of those who are now; give it several times for several addresses' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -l url -d 'The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -l auth-key -d 'The key. Other users of this machine can see it here: better is NIGHTS_WATCH_AUTH_KEY, or what `configure` stores' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -l no-emails -d 'Tell nobody any more'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -l json -d 'Print the JSON of the service as it is'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand update" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand delete" -l name -d 'The watcher with this name' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand delete" -l slug -d 'The watcher with this slug' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand delete" -l id -d 'The watcher with this identifier' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand delete" -l url -d 'The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand delete" -l auth-key -d 'The key. Other users of this machine can see it here: better is NIGHTS_WATCH_AUTH_KEY, or what `configure` stores' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand delete" -l json -d 'Print the JSON of the service as it is'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand delete" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand trigger" -l comment -d 'What there is to say, up to 1000 characters; kept in the history' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand trigger" -l name -d 'The watcher with this name' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand trigger" -l slug -d 'The watcher with this slug' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand trigger" -l id -d 'The watcher with this identifier' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand trigger" -l url -d 'The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand trigger" -l auth-key -d 'The key. Other users of this machine can see it here: better is NIGHTS_WATCH_AUTH_KEY, or what `configure` stores' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand trigger" -l json -d 'Print the JSON of the service as it is'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand trigger" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand pause" -l comment -d 'What there is to say, up to 1000 characters; kept in the history' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand pause" -l name -d 'The watcher with this name' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand pause" -l slug -d 'The watcher with this slug' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand pause" -l id -d 'The watcher with this identifier' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand pause" -l url -d 'The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand pause" -l auth-key -d 'The key. Other users of this machine can see it here: better is NIGHTS_WATCH_AUTH_KEY, or what `configure` stores' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand pause" -l json -d 'Print the JSON of the service as it is'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand pause" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand unpause" -l comment -d 'What there is to say, up to 1000 characters; kept in the history' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand unpause" -l name -d 'The watcher with this name' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand unpause" -l slug -d 'The watcher with this slug' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand unpause" -l id -d 'The watcher with this identifier' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand unpause" -l url -d 'The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand unpause" -l auth-key -d 'The key. Other users of this machine can see it here: better is NIGHTS_WATCH_AUTH_KEY, or what `configure` stores' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand unpause" -l json -d 'Print the JSON of the service as it is'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand unpause" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand exec" -l name -d 'The watcher with this name' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand exec" -l slug -d 'The watcher with this slug' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand exec" -l id -d 'The watcher with this identifier' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand exec" -l retry-for -d 'For how long to ask again, once the command has ended, if the service does not answer; 0 for not at all' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand exec" -l url -d 'The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand exec" -l report-failure -d 'Also trigger when the command failed, with a comment that says so: the watcher counts that as a report, so nobody is told of the failure'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand health" -l url -d 'The service [default: NIGHTS_WATCH_URL, else what `configure` has stored, else http://localhost]' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand health" -l ready -d 'Ask whether it does its work, not only whether it lives'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand health" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand configure" -l url -d 'Store this URL of the service' -r
complete -c nights-watch -n "__fish_nights_watch_using_subcommand configure" -l auth-key-stdin -d 'Read the key from standard input, and store it'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand configure" -l no-auth-key -d 'Store no key'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand configure" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand completions" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand man" -s h -l help -d 'Print help'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "import" -d 'Copy all watchers of an SQLite database, with identifiers and histories, into the store that is configured, and exit'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "openapi" -d 'Print the OpenAPI document of the HTTP interface, and exit'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "create" -d 'Create a watcher, and show it with its trigger URL'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "get" -d 'Show a watcher and its newest events'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "list" -d 'Show watchers in a table: state, when each is due, and what happened last'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "update" -d 'Change a watcher; what is not given stays'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "delete" -d 'Delete a watcher, with its history'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "trigger" -d 'Report that the task of a watcher ran; needs no key'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "pause" -d 'Pause a watcher: it has no deadline until it is unpaused or triggered'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "unpause" -d 'Unpause a watcher: it has its whole periodicity from now'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "exec" -d 'Run a command, and trigger a watcher when it succeeded'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "health" -d 'Ask whether the service is alive; for health checks of containers, and needs no key'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "configure" -d 'Store which service is meant, and the key to it, in a file that only you can read'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "completions" -d 'Print what makes a shell complete these commands, and exit'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "man" -d 'Print the manual page, and exit'
complete -c nights-watch -n "__fish_nights_watch_using_subcommand help; and not __fish_seen_subcommand_from import openapi create get list update delete trigger pause unpause exec health configure completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
