from llm_pruner.cli import main

if __name__ == "__main__":
    main()
